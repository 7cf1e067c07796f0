"""A ``.tflite`` as C sources, for microcontrollers that have no file system.

    model.h   declares  extern const unsigned char model_tflite[];
                        extern const unsigned int model_tflite_len;
    model.c   defines both

The names are those that ``xxd -i model.tflite`` makes. TensorFlow Lite Micro reads a program only from an
address that is a multiple of 16.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["ALIGNMENT", "NAME", "header", "read", "source"]

NAME = "model_tflite"
ALIGNMENT = 16
_PER_LINE = 12

_HEADER = f"""\
#ifndef MODEL_TFLITE_H_
#define MODEL_TFLITE_H_

#ifdef __cplusplus
extern "C" {{
#endif

/* The program, a .tflite file, and how many bytes it has. */
extern const unsigned char {NAME}[];
extern const unsigned int {NAME}_len;

#ifdef __cplusplus
}}
#endif

#endif /* MODEL_TFLITE_H_ */
"""

_SOURCE = """\
#include "model.h"

#ifndef __cplusplus
#include <stdalign.h>
#endif

alignas({alignment}) const unsigned char {name}[] = {{
{rows}
}};
const unsigned int {name}_len = {length}u;
"""

_ARRAY = re.compile(rf"{NAME}\[\] = \{{\n(.*?)\n\}};\nconst unsigned int {NAME}_len = (\d+)u;\n", re.DOTALL)


def header() -> str:
    """``model.h``, the same for every program."""
    return _HEADER


def source(content: bytes) -> str:
    """``model.c`` (C11, C++11) for a program."""
    return _SOURCE.format(alignment=ALIGNMENT, name=NAME, rows="\n".join(_rows(content)), length=len(content))


def read(text: str) -> bytes:
    """The program in what `source` made. ValueError for anything else."""
    found = _ARRAY.search(text)
    if found is None:
        raise ValueError(f"no array {NAME} in the source")
    content = bytes(int(value, 16) for value in found[1].replace("\n", "").split(",") if value.strip())
    if len(content) != int(found[2]):
        raise ValueError(f"the array has {len(content)} bytes and is said to have {found[2]}")
    return content


def _rows(content: bytes) -> Iterator[str]:
    for start in range(0, len(content), _PER_LINE):
        yield "  " + ", ".join(f"0x{value:02x}" for value in content[start : start + _PER_LINE]) + ","
