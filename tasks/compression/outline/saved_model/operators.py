"""The operations that a SavedModel's graph may have: what computes on tensors and variables alone.

A list of what is allowed, not of what is not: TensorFlow has some 1,900 operations, and of those that read or
write files, print, load libraries or call Python many say nothing of it. Not here although they look
harmless: ImmutableConst (reads a file), InitializeTableFromTextFileV2 and the readers of data sets (files),
PrintV2, DebugIdentity and summaries (write files), Abort (ends the process), PyFunc.
"""

from __future__ import annotations

__all__ = ["ALLOWED", "SAVERS"]

_VALUES = """
    Const Placeholder PlaceholderWithDefault Identity IdentityN NoOp Snapshot StopGradient PreventGradient
    EnsureShape CheckNumerics CheckNumericsV2 Assert DisableCopyOnRead Cast Bitcast Fill ZerosLike
    OnesLike Range LinSpace BroadcastTo BroadcastArgs BroadcastGradientArgs
"""
_VARIABLES = """
    VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp VarIsInitializedOp
    VariableShape ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterSub
    ResourceScatterUpdate ResourceScatterNdUpdate ResourceScatterNdAdd DestroyResourceOp GuaranteeConst
"""
_CALLS = """
    PartitionedCall StatefulPartitionedCall If StatelessIf Case StatelessCase While StatelessWhile Switch
    Merge Enter Exit NextIteration LoopCond ControlTrigger
"""
_LISTS = """
    TensorListReserve TensorListFromTensor TensorListGetItem TensorListSetItem TensorListStack
    TensorListGather TensorListScatter TensorListScatterV2 TensorListScatterIntoExistingList
    TensorListLength TensorListResize TensorListElementShape TensorListConcat TensorListConcatV2
    TensorListConcatLists TensorListSplit TensorListPushBack TensorListPushBackBatch TensorListPopBack
    EmptyTensorList TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArraySizeV3
    TensorArrayGatherV3 TensorArrayScatterV3 TensorArrayConcatV3 TensorArraySplitV3 TensorArrayCloseV3
"""
_ARITHMETIC = """
    Abs Acos Acosh Add AddN AddV2 AccumulateNV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh
    BesselI0 BesselI0e BesselI1 BesselI1e Betainc BitwiseAnd BitwiseOr BitwiseXor Ceil ClipByValue Complex
    ComplexAbs Conj Cos Cosh Cross Digamma Div DivNoNan Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv
    FloorMod Greater GreaterEqual Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeftShift Less
    LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg
    NextAfter NotEqual Polygamma PopulationCount Pow Real RealDiv Reciprocal RightShift Rint Round Rsqrt
    Select SelectV2 Sigmoid Sign Sin Sinh Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv
    TruncateMod Xdivy Xlog1py Xlogy Zeta
"""
_REDUCTIONS = """
    All Any ArgMax ArgMin Bincount DenseBincount Bucketize Cumprod Cumsum CumulativeLogsumexp
    EuclideanNorm HistogramFixedWidth InTopK InTopKV2 L2Loss Max Mean Min NthElement Prod SegmentMax
    SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2 SegmentSum SegmentSumV2 Sum
    TopK TopKV2 UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
"""
_SHAPES = """
    BatchToSpace BatchToSpaceND Concat ConcatOffset ConcatV2 ConjugateTranspose DepthToSpace Diag DiagPart
    DynamicPartition DynamicStitch ExpandDims Gather GatherNd GatherV2 InvertPermutation ListDiff
    LowerBound MirrorPad OneHot Pack Pad PadV2 ParallelDynamicStitch Rank Reshape Reverse ReverseSequence
    ReverseV2 Roll ScatterNd Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV
    Squeeze StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
    TensorScatterUpdate TensorStridedSliceUpdate Tile Transpose Unique UniqueV2 UniqueWithCounts
    UniqueWithCountsV2 Unpack UnravelIndex UpperBound Where
"""
_ALGEBRA = """
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Einsum FFT FFT2D FFT3D IFFT IFFT2D IFFT3D IRFFT
    IRFFT2D IRFFT3D RFFT RFFT2D RFFT3D MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart
    MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag
    MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixTriangularSolve Qr SelfAdjointEigV2 Svd
"""
_NETWORKS = """
    AvgPool AvgPool3D BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2
    CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackpropV3 DataFormatDimMap DataFormatVecPermute
    DepthwiseConv2dNative Dilation2D Elu FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN LeakyRelu
    LogSoftmax MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Relu Relu6 Selu Softmax Softplus Softsign
    SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits
"""
_IMAGES = """
    AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize
    ExtractImagePatches ExtractVolumePatches HSVToRGB ImageProjectiveTransformV2
    ImageProjectiveTransformV3 NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3
    NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ScaleAndTranslate
"""
_CHANCE = """
    RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt TruncatedNormal
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt RngReadAndSkip RngSkip StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
    StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal
    StatelessTruncatedNormalV2
"""

ALLOWED: frozenset[str] = frozenset(
    name
    for family in (
        _VALUES,
        _VARIABLES,
        _CALLS,
        _LISTS,
        _ARITHMETIC,
        _REDUCTIONS,
        _SHAPES,
        _ALGEBRA,
        _NETWORKS,
        _IMAGES,
        _CHANCE,
    )
    for name in family.split()
)

SAVERS: frozenset[str] = ALLOWED | {
    "MergeV2Checkpoints",
    "RestoreV2",
    "SaveV2",
    "ShardedFilename",
    "StaticRegexFullMatch",
    "StringJoin",
}
"""What the two functions may have that TensorFlow writes for saving and restoring, and that nothing calls."""
