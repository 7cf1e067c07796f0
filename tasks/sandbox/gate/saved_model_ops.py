"""The operations that a SavedModel may have: arithmetic on tensors, variables, control flow and tables in
memory. None reads or writes a file, prints, or calls out of the graph. What a later TensorFlow needs is added
here."""

from __future__ import annotations

__all__ = ["CHECKPOINT_OPS", "OPS"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CHECKPOINT_OPS = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
"""Only in the functions that TensorFlow writes for saving and restoring."""

OPS = _words(
    """
    Const Identity IdentityN NoOp Placeholder PlaceholderWithDefault StopGradient PreventGradient
    EnsureShape _Arg _Retval PartitionedCall StatefulPartitionedCall If StatelessIf While StatelessWhile
    Case StatelessCase Switch Merge Enter Exit NextIteration LoopCond VarHandleOp ReadVariableOp
    AssignVariableOp AssignAddVariableOp AssignSubVariableOp VarIsInitializedOp VariableV2 Assign
    DisableCopyOnRead ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterUpdate Assert Abs
    Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh BatchMatMul BatchMatMulV2
    BatchMatMulV3 BiasAdd BiasAddV1 BitwiseAnd BitwiseOr BitwiseXor Bincount Bitcast BroadcastArgs
    BroadcastTo Bucketize Cast Ceil CheckNumerics Cholesky ClipByValue Complex ComplexAbs Concat ConcatV2
    ConcatOffset Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp DenseBincount Diag DiagPart Digamma
    Div DivNoNan DynamicPartition DynamicStitch Einsum Elu Empty Equal Erf Erfc Erfinv Exp ExpandDims Expm1
    FFT FFT2D Fill Floor FloorDiv FloorMod Gather GatherNd GatherV2 Greater GreaterEqual HistogramFixedWidth
    IFFT IFFT2D IRFFT Imag InTopKV2 Inv InvertPermutation IsFinite IsInf IsNan LeakyRelu LeftShift Less
    LessEqual Lgamma LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LowerBound MatMul
    MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV3 MatrixDiagV3 MatrixInverse
    MatrixSetDiagV3 MatrixSolve MatrixTriangularSolve Max Maximum Mean Min Minimum MirrorPad Mod Mul
    MulNoNan Multinomial Neg NextAfter NotEqual OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch Pow
    Prod Qr RFFT RFFT2D Range Rank Real RealDiv Reciprocal Relu Relu6 Reshape Reverse ReverseSequence
    ReverseV2 RightShift Rint Roll Round Rsqrt ScatterNd SegmentMaxV2 SegmentMean SegmentSumV2 Select
    SelectV2 Selu SelfAdjointEigV2 Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SparseToDense Split SplitV Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Svd Tan Tanh
    TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
    TensorStridedSliceUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod Unique UniqueV2 Unpack
    UnravelIndex UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentSum UpperBound Where Xdivy Xlog1py
    Xlogy ZerosLike Betainc Polygamma Zeta AvgPool AvgPool3D BatchToSpace BatchToSpaceND Conv Conv2D Conv3D
    Conv2DBackpropInput Conv3DBackpropInputV2 DepthToSpace DepthwiseConv2dNative Dilation2D
    ExtractImagePatches FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 L2Loss LRN MaxPool MaxPool3D
    MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel SpaceToBatch
    SpaceToBatchND SpaceToDepth SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits
    CTCGreedyDecoder AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize HSVToRGB
    ImageProjectiveTransformV3 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5
    CombinedNonMaxSuppression RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
    ScaleAndTranslate BlockLSTM BlockLSTMV2 GRUBlockCell LSTMBlockCell CudnnRNN CudnnRNNV2 CudnnRNNV3
    TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
    TensorListScatter TensorListSetItem TensorListSplit TensorListStack EmptyTensorList TensorArrayV3
    TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3
    AvgPool3DGrad AvgPoolGrad BiasAddGrad BlockLSTMGrad BlockLSTMGradV2 CholeskyGrad Conv2DBackpropFilter
    Conv3DBackpropFilterV2 CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3
    DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput EluGrad FusedBatchNormGrad
    FusedBatchNormGradV2 FusedBatchNormGradV3 GRUBlockCellGrad InvGrad LRNGrad LSTMBlockCellGrad
    LeakyReluGrad MaxPool3DGrad MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad MaxPoolGradV2 MirrorPadGrad
    QuantizeAndDequantizeV4Grad ReciprocalGrad Relu6Grad ReluGrad ResizeBicubicGrad ResizeBilinearGrad
    ResizeNearestNeighborGrad RsqrtGrad ScaleAndTranslateGrad SeluGrad SigmoidGrad SoftplusGrad SoftsignGrad
    SqrtGrad StridedSliceGrad TanhGrad TensorArrayGradV3 BroadcastGradientArgs RandomStandardNormal
    RandomUniform RandomUniformInt TruncatedNormal StatelessRandomGetKeyCounter StatelessRandomGetAlg
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessTruncatedNormalV2 StatefulUniform RngReadAndSkip RngSkip HashTableV2 MutableHashTableV2
    LookupTableFindV2 LookupTableImportV2 LookupTableExportV2 LookupTableSizeV2 LookupTableInsertV2
    InitializeTableV2 StaticRegexReplace StringLower StringUpper StringJoin StringToNumber
    StaticRegexFullMatch AsString StringSplitV2 RaggedTensorToTensor RaggedRange
    """
)
