"""The values that inputs may have which are indices into embeddings."""

from __future__ import annotations

from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.errors import CompressionError

__all__ = ["input_ranges"]

_SAME_VALUES = frozenset(
    f"aten.{name}"
    for name in (
        *("clone.default", "contiguous.default", "detach.default"),
        *("flatten.using_ints", "permute.default", "reshape.default", "t.default", "transpose.int"),
        *("unflatten.int", "unsqueeze.default", "view.default", "squeeze.default", "squeeze.dim"),
        *("select.int", "slice.Tensor", "split.Tensor", "unbind.int", "chunk.default"),
        *("to.dtype", "to.dtype_layout", "_to_copy.default"),
    )
)


def input_ranges(model: fx.GraphModule, types: tuple[str, ...]) -> tuple[int | None, ...]:
    """For each input how many values from 0 on it may have, where it goes into embeddings; None elsewhere.

    Raises CompressionError unsupported_model for integers that go into no embedding.
    """
    inputs = [node for node in model.graph.nodes if node.op == "placeholder"]
    return tuple(_range(model, node, dtype) for node, dtype in zip(inputs, types, strict=True))


def _range(model: fx.GraphModule, given: fx.Node, dtype: str) -> int | None:
    sizes = [size for node in _same(given) for size in _vocabularies(model, node)]
    if not sizes and dtype == "float32":
        return None
    if not sizes:
        raise CompressionError(
            "unsupported_model",
            f"the input {given.name} holds integers and goes straight into no embedding: which values it "
            "may have is not known",
            hint="let the model take float32 and convert it, or look them up in an nn.Embedding first",
        )
    return min(sizes)


def _same(given: fx.Node) -> list[fx.Node]:
    """The nodes whose values are the input's, in another order or shape."""
    found, waiting = [given], [given]
    while waiting:
        for user in waiting.pop().users:
            getting = user.op == "call_function" and getattr(user.target, "__name__", "") == "getitem"
            if (str(user.target) in _SAME_VALUES or getting) and user not in found:
                found.append(user)
                waiting.append(user)
    return found


def _vocabularies(model: fx.GraphModule, node: fx.Node) -> list[int]:
    found = []
    for user in node.users:
        layer = model.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(layer, nn.Embedding):
            found.append(layer.num_embeddings)
    return found
