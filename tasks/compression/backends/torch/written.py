"""Answers of written files that hold no LiteRT program, loaded afresh in their own runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import torch, torchao
from tasks.compression.backends.torch.exported import MAX_BATCH, NAMES
from tasks.compression.backends.torch.pte import predict_pte
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.samples import Array, Tensors, arrays_of, gathered, joined
from tasks.compression.silence import quiet

__all__ = ["predict_written"]

BATCH = 256


def predict_written(output: str, path: Path, x: Tensors) -> Tensors:
    """The outputs for samples `x` (axis 0) as float32. ValueError for a file that its runtime cannot run."""
    if output == "onnx":
        return OnnxProgram(path).predict(x)
    if output == "pte":
        return predict_pte(path, x)
    return _predict_pt2(path, x)


def _predict_pt2(path: Path, x: Tensors) -> Tensors:
    torchao("quantization.pt2e.quantize_pt2e")  # registers the operators of quantised programs
    held: dict[str, Any] = {NAMES: ""}
    try:
        with quiet():
            program = torch.export.load(path, extra_files=held)
            model = program.module()
        dtypes = [str(value.dtype).removeprefix("torch.") for value in _placeholders(program)]
        names = json.loads(held[NAMES])["output_names"] if held[NAMES] else _output_names(program)
        size = min(BATCH, MAX_BATCH)
        with torch.inference_mode():
            return joined([_answer(model, dtypes, names, x[i : i + size]) for i in range(0, len(x), size)])
    except RuntimeError as error:
        raise ValueError((str(error).strip() or type(error).__name__).splitlines()[0][:300]) from error


def _answer(model: Any, dtypes: list[str], names: list[str], x: Tensors) -> Tensors:
    given = [
        torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
        for array, dtype in zip(arrays_of(x), dtypes, strict=True)
    ]
    found = model(*given)
    parts = (found,) if isinstance(found, torch.Tensor) else tuple(found)
    return gathered(names, [_plain(part) for part in parts])


def _plain(part: torch.Tensor) -> Array:
    return np.asarray(part.numpy(), dtype=np.float32)


def _placeholders(program: Any) -> list[Any]:
    names = set(program.graph_signature.user_inputs)
    return [
        node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names
    ]


def _output_names(program: Any) -> list[str]:
    return [f"output_{place}" for place in range(len(program.graph_signature.user_outputs))]
