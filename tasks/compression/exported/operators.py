"""Which operators an exported program may call: those that make tensors of tensors, the same each time."""

from __future__ import annotations

import re
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.exported.schema import HINT

__all__ = ["operator"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TARGET = re.compile(r"torch\.ops\.(?P<space>\w{1,60})\.(?P<name>\w{1,100})(?:\.(?P<overload>\w{1,60}))?")
_NUMBERS = _words(
    "_operator.add _operator.eq _operator.floordiv _operator.ge _operator.getitem _operator.gt _operator.le "
    "_operator.lt _operator.mod _operator.mul _operator.ne _operator.neg _operator.sub _operator.truediv "
    "_operator.and_ _operator.or_ torch.sym_float torch.sym_int torch.sym_max torch.sym_min torch.sym_not "
    "math.ceil math.floor math.trunc"
)
"""Of sizes, which are numbers."""
_ATEN = _words(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_scalar _assert_tensor_metadata _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention_for_cpu _softmax
    _to_copy _unsafe_view abs acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv
    alias all alpha_dropout amax amin aminmax any arange argmax argmin asin asinh atan atan2
    atanh avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bitwise_and bitwise_not bitwise_or
    bitwise_xor bmm bucketize broadcast_tensors cat ceil celu chunk clamp clamp_max clamp_min clone
    constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    convolution copy copysign cos cosh cosine_similarity cross cumprod cumsum detach diag diag_embed
    diagonal diff div dot dropout einsum elu embedding eq erf erfc exp exp2 expand
    expand_as expm1 eye feature_dropout fill flatten flip floor floor_divide fmod frac full full_like
    gather ge gelu glu grid_sampler grid_sampler_2d group_norm gru gt hardshrink hardsigmoid hardswish
    hardtanh hypot im2col col2im index index_add index_copy index_put index_select instance_norm
    isfinite isinf isnan kthvalue layer_norm le leaky_relu lerp lift_fresh lift_fresh_copy linalg_norm
    linalg_vector_norm linear linspace log log10 log1p log2 log_sigmoid log_softmax logaddexp
    logical_and logical_not logical_or logical_xor logsumexp lstm lstm_cell gru_cell rnn_relu_cell
    rnn_tanh_cell lt masked_fill masked_scatter matmul max max_pool1d max_pool2d max_pool2d_with_indices
    max_pool3d max_pool3d_with_indices maximum mean median meshgrid min minimum mish mm moveaxis movedim
    mul mv nan_to_num narrow native_batch_norm native_group_norm native_layer_norm ne neg
    new_full new_ones new_zeros norm numpy_T one_hot ones ones_like outer pad permute pixel_shuffle
    pixel_unshuffle pow prelu prod reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu
    relu6 remainder repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d
    reshape reshape_as rms_norm rnn_relu rnn_tanh roll round rsqrt rsub scalar_tensor
    scaled_dot_product_attention scatter scatter_add select select_scatter selu sigmoid sign silu sin
    sinh slice slice_scatter softmax softplus softshrink sort split split_with_sizes sqrt square squeeze
    stack std sub sum swapaxes sym_numel sym_size sym_stride t tan tanh tensor_split threshold tile to
    topk transpose tril triu true_divide trunc type_as unbind unflatten unfold unsqueeze
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
    upsample_nearest3d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa var var_mean
    view view_as where xlogy zero zeros zeros_like __and__ __or__ __xor__
    """
)
_INTEGERS = frozenset({"quantized_decomposed", "quantized", "torchao", "_quantized"})
_CONTROL = "let forward take the same way for every input: no if, while or loop over a tensor's values"
_WRAPPED = "leave torch.no_grad and autocast out of forward, and export the model outside of them"
_CHANCE = _words("bernoulli multinomial normal rand rand_like randint randint_like randn randn_like")
_BY_VALUE = _words("item _local_scalar_dense nonzero masked_select unique _unique2 bincount")
_FAST = frozenset({"_transformer_encoder_layer_fwd", "_native_multi_head_attention"})


def operator(value: Any, where: str) -> str:
    """The operator's name. CompressionError op_not_allowed, already_quantized; unsupported_model for control
    flow by the values of tensors, and for chance."""
    if isinstance(value, str) and value in _NUMBERS:
        return value
    match = _TARGET.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _refused(str(value), HINT)
    space, name, overload = match["space"], match["name"], match["overload"] or ""
    if space == "aten" and _plain(name) in _ATEN and not overload.endswith("out"):
        return match[0]
    if space in _INTEGERS:
        raise CompressionError(
            "already_quantized",
            f"the exported program computes in integers already: it calls {match[0][:100]}",
            hint="upload the float model",
        )
    if space == "higher_order":
        raise _unsupported(match[0], _WRAPPED if name.startswith("wrap_with") else _CONTROL)
    if space != "aten":
        raise _refused(
            match[0], "operators of one's own cannot be loaded here; write the model with PyTorch's own"
        )
    if name in _FAST:
        raise _unsupported(
            match[0], "export the model outside of torch.no_grad, as featherweight.torch.save does"
        )
    if _plain(name) in _CHANCE:
        raise _unsupported(match[0], "call model.eval(), and draw random numbers in training alone")
    if _plain(name) in _BY_VALUE:
        raise _unsupported(match[0], _CONTROL)
    raise _refused(match[0], HINT)


def _plain(name: str) -> str:
    """Without the underscore of operators that work in place."""
    return name.removesuffix("_") if not name.endswith("__") else name


def _refused(name: str, hint: str) -> CompressionError:
    return CompressionError(
        "op_not_allowed", f"the exported program calls {name[:100]!r}, which is not allowed", hint=hint
    )


def _unsupported(name: str, hint: str) -> CompressionError:
    return CompressionError(
        "unsupported_model",
        f"the exported program calls {name[:100]}, which no network of layers does",
        hint=hint,
    )
