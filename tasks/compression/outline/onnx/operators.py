"""The operators of ONNX that compute on tensors alone, without loops, branches or chance."""

from __future__ import annotations

__all__ = ["ALLOWED", "CONVERTIBLE", "QUANTISED"]

_POINTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast
    CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual
    HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax Max Mean Min
    Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus
    Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
_LAYERS = """
    Attention AveragePool BatchNormalization Conv ConvTranspose Einsum GRU Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool GroupNormalization InstanceNormalization LRN LSTM LayerNormalization
    LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization RMSNormalization RNN RotaryEmbedding
"""
_REDUCTIONS = """
    ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare TopK
"""
_SHAPES = """
    Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather GatherElements
    GatherND GridSample NonZero OneHot Pad Range Reshape Resize ReverseSequence ScatterElements ScatterND
    Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze
"""
ALLOWED = frozenset(f"{_POINTWISE} {_LAYERS} {_REDUCTIONS} {_SHAPES}".split())

QUANTISED = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)
"""Those of models that are quantised already."""

_REBUILT = """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Cos Div Dropout Elu Erf
    Exp Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity
    LayerNormalization LeakyRelu Log LogSoftmax MatMul Max MaxPool Min Mish Mul Neg PRelu Pad Pow Reciprocal
    ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Sigmoid Sin Slice Softmax Softplus Split Sqrt
    Squeeze Sub Tanh Transpose Unsqueeze
"""
_OF_SIZES = "Constant ConstantOfShape Range Shape Size"
CONVERTIBLE = frozenset(f"{_REBUILT} {_OF_SIZES}".split())
"""Those that have a counterpart among PyTorch's layers and functions, by which other formats are written, and
those that compute sizes, which need none."""
