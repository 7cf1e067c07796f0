"""Models of PyTorch on their way to the service: exported, so that nobody needs their source code.

    import featherweight.torch

    featherweight.torch.save(model, torch.randn(1, 3, 224, 224), "model.pt2")
    job = featherweight.Client().compress("model.pt2", spec="spec.yaml", dataset="data.npz")

PyTorch itself is needed for this alone, and imported when it is called.
"""

from __future__ import annotations

import copy
import json
import keyword
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.errors import ConfigurationError, ExportFailed

if TYPE_CHECKING:
    import torch

__all__ = ["VERSION", "save"]

VERSION = "2.13"
"""The PyTorch whose exported programs the service reads; another's have another form."""

# An exported batch of one would be the only one that the program takes.
_EXPORTED_BATCH = 2
_TRIED_BATCHES = (1, 3)
_TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
_NAMES = "featherweight.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def save(
    model: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    max_batch: int = 1024,
) -> Path:
    """Write `model` to `path`, a ``.pt2``, as the service takes it; returns the path.

    `example_inputs` are what ``forward`` is called with by position, each with the batch as its first axis:
    their shapes and types are kept, their values are not. The program is of the model in eval() and takes
    batches of 1 to `max_batch`; it is tried with some. The model itself is left as it is, and no line of its
    source is in the file.

    `input_names` and `output_names` are what the service calls the tensors, one for each: in data sets and
    specs, and in the files it makes. Left out, inputs are called as the parameters of ``forward``, and
    outputs ``output``, ``output_0`` and so on, or by the keys of the dict that it answers with.

    ConfigurationError without PyTorch, or with another version than VERSION; TypeError and ValueError for
    inputs that are no tensors with a batch, and for names that are none; ExportFailed, with what to change,
    for a model that cannot be exported, or that as exported computes something else.
    """
    torch = _pytorch()
    inputs = _batch(torch, example_inputs)
    if max_batch < max(_TRIED_BATCHES):
        raise ValueError(f"max_batch is at least {max(_TRIED_BATCHES)}")
    target = Path(path)
    if target.suffix != ".pt2":
        raise ValueError(
            f"the name of an exported program ends in .pt2, and that of {target.name!r} does not"
        )
    plain = copy.deepcopy(model).cpu().eval()
    names = {"input_names": input_names, "output_names": output_names}
    _check_names(names)
    program = _exported(torch, plain, inputs, max_batch)
    _check_counts(names, {"input_names": len(inputs), "output_names": _outputs(program)})
    _compare(torch, plain, program, inputs)
    _forget_the_source(program)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            torch.export.save(program, file, extra_files=_extra_files(names))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _pytorch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConfigurationError(
            f"PyTorch is not installed here: pip install torch=={VERSION}.* takes what is needed"
        ) from error
    if torch.__version__.split(".")[:2] != VERSION.split("."):
        raise ConfigurationError(
            f"this is PyTorch {torch.__version__}, and the service reads what {VERSION} exports: "
            f"pip install torch=={VERSION}.*, in an environment of its own if need be"
        )
    return torch


def _check_names(names: Mapping[str, Sequence[str] | None]) -> None:
    every: list[str] = []
    for key, given in names.items():
        if given is None:
            continue
        if isinstance(given, str) or not all(isinstance(name, str) for name in given):
            raise TypeError(f"{key} are a sequence of texts")
        for name in given:
            if not _NAME.fullmatch(name) or keyword.iskeyword(name):
                raise ValueError(
                    f"{key}: {name!r} is no name; letters, digits and underscores are one, up to 100, that "
                    "begin with no digit and are no keyword of Python"
                )
        every += given
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: each input and output has a name of its own")


def _check_counts(names: Mapping[str, Sequence[str] | None], counts: Mapping[str, int]) -> None:
    for key, given in names.items():
        if given is not None and len(given) != counts[key]:
            raise ValueError(f"{key} are {len(given)}, and the model has {counts[key]}")


def _outputs(program: Any) -> int:
    return len(program.graph_signature.user_outputs)


def _extra_files(names: Mapping[str, Sequence[str] | None]) -> dict[str, str]:
    told = {key: list(given) for key, given in names.items() if given is not None}
    return {_NAMES: json.dumps(told)} if told else {}


def _batch(torch: Any, example_inputs: Any) -> tuple[Any, ...]:
    """Two samples of each input: the first two, or the only one twice."""
    given = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    if not given or not all(isinstance(each, torch.Tensor) for each in given):
        raise TypeError("example_inputs are a tensor or a sequence of tensors, as forward takes them")
    sizes = {each.shape[0] if each.dim() else 0 for each in given}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError("every example input has the batch as its first axis, of one size and not empty")
    return tuple(_samples(torch, each, _EXPORTED_BATCH) for each in given)


def _samples(torch: Any, values: Any, count: int) -> Any:
    """So many of them, those that there are again and again."""
    values = values.detach().cpu()
    return values[torch.arange(count) % values.shape[0]].contiguous()


def _exported(torch: Any, model: Any, inputs: tuple[Any, ...], max_batch: int) -> Any:
    batch = torch.export.Dim("batch", min=1, max=max_batch)
    shapes = tuple({0: batch} for _ in inputs)
    # Positional arguments by position, however forward names them.
    named = shapes if not _takes_any_number(model) else (shapes,)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Of recurrent layers, whose second list of their own weights is exported as those weights.
            warnings.filterwarnings("ignore", message="The tensor attributes .*_flat_weights")
            return torch.export.export(model, inputs, dynamic_shapes=named, strict=False)
    # What goes wrong while a model is traced is of any kind: also whatever its own forward raises.
    except Exception as error:
        raise ExportFailed(
            f"the model cannot be exported: {_first_lines(error)}. {_advice(error)}"
        ) from error


def _takes_any_number(model: Any) -> bool:
    import inspect

    kinds = [each.kind for each in inspect.signature(model.forward).parameters.values()]
    return bool(kinds) and kinds[0] is inspect.Parameter.VAR_POSITIONAL


def _first_lines(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:300] or type(error).__name__).rstrip(". ")


def _advice(error: Exception) -> str:
    said = f"{type(error).__name__} {error}".lower()
    if any(word in said for word in ("data-dependent", "datadependent", "guardondata", "data dependent")):
        return (
            "What forward does may not depend on the values it computes: choose with torch.where in place "
            "of if, and take sizes from shapes instead of .item() or .tolist()"
        )
    if "constraints violated" in said or "batch" in said or "specialized" in said:
        return (
            "Every layer has to take any number of samples: write x.flatten(1) or x.reshape(x.shape[0], -1), "
            "not a view with the batch's size in numbers, and leave the first axis to the batch"
        )
    return (
        "forward has to be made of operations of torch on tensors, without NumPy, without if or while on "
        "values, and without keyword arguments that the example inputs leave out"
    )


def _compare(torch: Any, model: Any, program: Any, inputs: tuple[Any, ...]) -> None:
    """Both on batches of other sizes than the exported one."""
    exported = program.module()
    for size in _TRIED_BATCHES:
        given = tuple(_samples(torch, each, size) for each in inputs)
        try:
            with torch.no_grad():
                wanted, found = _flat(torch, model(*given)), _flat(torch, exported(*given))
        except Exception as error:
            raise ExportFailed(
                f"the exported program takes no batch of {size}: {_first_lines(error)}. {_advice(error)}"
            ) from error
        if len(wanted) != len(found) or not all(
            one.shape == other.shape and torch.allclose(one, other, equal_nan=True, **_TOLERANCE)
            for one, other in zip(wanted, found, strict=True)
        ):
            raise ExportFailed(
                f"for a batch of {size} the exported program computes something else than the model: what "
                "forward does has to be the same in every call, and may not be drawn by chance or depend on "
                "the number of samples"
            )


def _flat(torch: Any, value: Any) -> list[Any]:
    return [each for each in torch.utils._pytree.tree_leaves(value) if isinstance(each, torch.Tensor)]


def _forget_the_source(program: Any) -> None:
    """Lines and paths of the caller's code, and the values of the example inputs, stay with the caller."""
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
