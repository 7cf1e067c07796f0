"""Pickles of PyTorch's checkpoints, judged by their opcodes and never loaded: tensors, numbers, texts and
containers; of names only those that PyTorch needs to put tensors together."""

from __future__ import annotations

import pickletools
import re
from pathlib import Path

from tasks.compression.errors import CompressionError

__all__ = ["WAY_OUT", "check", "check_pickle"]

WAY_OUT = (
    "load the model where its classes are, and upload what featherweight.torch.save(model, example_inputs, "
    "'model.pt2') writes"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MAX_OPCODES = 5_000_000

_OPCODES = _words(
    """
    PROTO STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE STRING BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT
    SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE
    FRAME GLOBAL BINPERSID REDUCE BUILD
    """
)
_NAMES = re.compile(
    r"collections OrderedDict"
    r"|torch (Size|device|[A-Z][A-Za-z0-9]*Storage|float16|float32|float64|bfloat16|u?int(8|16|32|64)|bool)"
    r"|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter|_rebuild_qtensor)"
    r"|torch\.storage (UntypedStorage|TypedStorage)"
)


def check(path: Path) -> None:
    """A bare pickle, which no model is: CompressionError pickle_not_allowed."""
    raise _refused("the file is a bare pickle")


def check_pickle(content: bytes, name: str) -> None:
    """CompressionError pickle_not_allowed for an opcode or a name that no state_dict needs."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            count += 1
            if opcode.name not in _OPCODES or count > _MAX_OPCODES:
                raise _refused(f"{name} uses {opcode.name}")
            if opcode.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
                raise _refused(f"{name} names {str(argument)[:100]!r}")
    # genops raises about anything for bytes that are no pickle.
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise _refused(f"{name} is no pickle that can be read") from error


def _refused(what: str) -> CompressionError:
    return CompressionError(
        "pickle_not_allowed",
        f"the model carries a pickle that is not allowed: {what}",
        hint=WAY_OUT,
    )
