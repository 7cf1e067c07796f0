"""The names that a Keras configuration may have: Keras' own classes and functions that carry no code, load no
file and import nothing. What a later Keras adds is added here, once it has been looked at."""

from __future__ import annotations

__all__ = [
    "CLASSES",
    "CODE_LAYERS",
    "FUNCTIONS",
    "LAYERS",
    "LOOKUPS",
    "OPERATIONS",
    "SIZES",
    "TENSORFLOW_FUNCTIONS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _numbered(*names: str, axes: tuple[int, ...] = (1, 2, 3)) -> list[str]:
    return [name.replace("#", f"{count}D") for name in names for count in axes]


CODE_LAYERS = frozenset(
    {
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "DenseFeatures"),
        *("ClassMethod", "InstanceMethod", "InstanceProperty", "__lambda__", "__typespec__"),
    }
)
"""They run what the file brings along, or what it names."""

LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization"})
"""Their vocabulary may be the path of a file of this machine, which they read."""

LAYERS = frozenset(
    [
        *_numbered("Conv#", "Conv#Transpose", "Convolution#", "Convolution#Transpose", "ConvLSTM#"),
        *_numbered("Cropping#", "SpatialDropout#", "UpSampling#", "ZeroPadding#"),
        *_numbered("AveragePooling#", "AvgPool#", "MaxPooling#", "MaxPool#"),
        *_numbered("GlobalAveragePooling#", "GlobalAvgPool#", "GlobalMaxPooling#", "GlobalMaxPool#"),
        *_numbered("AdaptiveAveragePooling#", "AdaptiveMaxPooling#"),
        *_numbered("DepthwiseConv#", "SeparableConv#", "SeparableConvolution#", axes=(1, 2)),
        *_numbered("LocallyConnected#", axes=(1, 2)),
        *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "ThresholdedReLU"),
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
        *("AbstractRNNCell", "GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "SimpleRNN", "SimpleRNNCell"),
        *("Bidirectional", "StackedRNNCells", "TimeDistributed", "Wrapper", "SpectralNormalization"),
        *("ConvLSTMCell", "ConvLSTM1DCell", "ConvLSTM2DCell", "ConvLSTM3DCell"),
        *("AdditiveAttention", "Attention", "GroupQueryAttention", "GroupedQueryAttention"),
        *("MultiHeadAttention", "BatchNormalization", "GroupNormalization", "LayerNormalization"),
        *("RMSNormalization", "SyncBatchNormalization", "UnitNormalization", "ActivityRegularization"),
        *("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "LayerScale", "StochasticDepth"),
        *("CustomScaleLayer",),
        *("Dense", "EinsumDense", "Embedding", "ReversibleEmbedding", "Flatten", "Identity", "InputLayer"),
        *("Layer", "Masking", "Permute", "RepeatVector", "Reshape", "MaxNumBoundingBoxes"),
        *("CategoryEncoding", "CenterCrop", "Discretization", "HashedCrossing", "Hashing"),
        *("Normalization", "Rescaling", "Resizing", "MelSpectrogram", "STFTSpectrogram", "Pipeline"),
        *("AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix"),
        *("Equalization", "MixUp", "RandAugment", "Solarization"),
        *("RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast"),
        *("RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
        *("RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective"),
        *("RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear"),
        *("RandomTranslation", "RandomWidth", "RandomZoom"),
        # What the functional API of Keras 2 writes for operations applied to tensors: TENSORFLOW_FUNCTIONS.
        *("SlicingOpLambda", "TFOpLambda"),
    ]
)

OPERATIONS = _words(
    """
    Abs Absolute Add All Amax Amin Any Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax
    Argmin Argsort Average BroadcastTo Cast Cbrt Ceil Clip Concatenate Conj Conjugate Copy Cos Cosh
    CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagonal Diff Digitize Divide DivideNoNan Dot Einsum
    Equal Exp Exp2 ExpandDims Expm1 Flip Fliplr Flipud Floor FloorDivide Full FullLike GetItem Greater
    GreaterEqual Hstack Hypot Imag Inner Isclose Isfinite Isinf Isnan Less LessEqual Linspace Log Log10
    Log1p Log2 Logaddexp LogicalAnd LogicalNot LogicalOr LogicalXor Matmul Max Maximum Mean Median Meshgrid
    Min Minimum Mod Moveaxis Multiply NanToNum Ndim Negative NotEqual OnesLike Outer Pad Power Prod Quantile
    Rad2deg Ravel Real Reciprocal Repeat Reshape Roll Rot90 Round Select Sign Sin Sinh Size Slogdet Sort
    Split Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile
    Trace Transpose Tril Triu TrueDivide Trunc Vander Var Vdot Vstack Where ZerosLike Erf Erfc Erfinv FFT
    FFT2 IFFT2 IRFFT ISTFT InTopK Logdet Logsumexp RFFT Rsqrt STFT SegmentMax SegmentSum TopK
    AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose DepthToSpace
    DepthwiseConv DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm
    LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot Normalize OneHot Polar RMSNorm Relu Relu6 Selu
    SeparableConv Sigmoid Silu SoftShrink Softmax Softplus Softsign SpaceToDepth SparsePlus SparseSigmoid
    Sparsemax Squareplus TanhShrink Threshold Unfold ConvertToTensor SaturateCast Scatter ScatterUpdate
    Slice SliceUpdate StopGradient Unstack AffineTransform CropImages ExtractPatches GaussianBlur HSVToRGB
    MapCoordinates PadImages PerspectiveTransform RGBToGrayscale RGBToHSV Resize Cholesky Det Eig Eigh Inv
    LuFactor Norm Qr SVD Solve SolveTriangular Rearrange
    """
)
"""Operations of ``keras.ops`` in a graph of Keras 3; none that takes a function."""

_PARTS = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
    VarianceScaling Zeros STFTInitializer L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg
    RadialConstraint UnitNorm DTypePolicy DTypePolicyMap FloatDTypePolicy QuantizedDTypePolicy
    QuantizedFloat8DTypePolicy Policy InputSpec SeedGenerator KerasTensor Index Adadelta Adafactor Adagrad
    Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD CosineDecay
    CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay __tuple__
    __keras_tensor__ __tensor__ __numpy__ __ellipsis__ __slice__ TensorShape CollectionType slice
    """
)
"""Initialisers, regularisers, constraints, types, optimisers and how Keras writes values."""

CLASSES = LAYERS | OPERATIONS | _PARTS | {"Functional", "Model", "Sequential"}

FUNCTIONS = _words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign
    sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """
)
"""Activations that stand as functions in a configuration."""

TENSORFLOW_FUNCTIONS = _words(
    """
    __operators__.add __operators__.eq __operators__.floordiv __operators__.getitem
    __operators__.logical_and __operators__.logical_not __operators__.logical_or __operators__.ne
    __operators__.truediv abs add add_n argmax argmin broadcast_to cast clip_by_value compat.v1.nn.conv2d
    compat.v1.reduce_max compat.v1.reduce_mean compat.v1.reduce_min compat.v1.reduce_sum compat.v1.shape
    compat.v1.squeeze compat.v1.transpose concat convert_to_tensor cos cumsum divide einsum exp expand_dims
    fill floor gather greater identity image.resize less linalg.l2_normalize linalg.matmul linalg.norm
    linalg.transpose logical_and logical_not logical_or math.abs math.add math.argmax math.argmin math.atan
    math.atan2 math.ceil math.cos math.cosh math.cumsum math.divide math.divide_no_nan math.equal math.erf
    math.exp math.floor math.floordiv math.floormod math.greater math.greater_equal math.l2_normalize
    math.less math.less_equal math.log math.log1p math.logical_and math.logical_not math.logical_or
    math.maximum math.minimum math.multiply math.multiply_no_nan math.negative math.not_equal math.pow
    math.reciprocal math.reduce_all math.reduce_any math.reduce_logsumexp math.reduce_max math.reduce_mean
    math.reduce_min math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance math.rint
    math.round math.rsqrt math.sigmoid math.sign math.sin math.sinh math.softplus math.sqrt math.square
    math.squared_difference math.subtract math.tan math.tanh math.top_k math.truediv matmul maximum meshgrid
    minimum multiply negative nn.avg_pool nn.avg_pool2d nn.batch_normalization nn.bias_add nn.conv2d
    nn.crelu nn.depth_to_space nn.depthwise_conv2d nn.dropout nn.elu nn.gelu nn.leaky_relu nn.l2_normalize
    nn.log_softmax nn.max_pool nn.max_pool2d nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax
    nn.softplus nn.softsign nn.space_to_depth nn.swish nn.tanh norm one_hot ones ones_like pad pow range
    rank repeat reshape reverse roll round shape sigmoid sign sin size slice split sqrt square squeeze stack
    stop_gradient strided_slice subtract tan tanh tensordot tile transpose truediv unstack where zeros
    zeros_like
    """
)
"""What TFOpLambda may call: functions of tensors alone. tf.io, tf.py_function and others have names too."""

SIZES = _words(
    """
    units filters input_dim output_dim num_heads key_dim value_dim size target_size n num_tokens num_bins
    depth_multiplier kernel_size pool_size strides rank sequence_length head_dim num_query_heads
    """
)
"""Keys whose numbers size an array, also where they are written as a fraction."""
