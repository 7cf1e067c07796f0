"""The only module that imports TensorFlow, after setting the environment it has to be imported in."""

from __future__ import annotations

import logging
import os
import warnings
from importlib import import_module
from typing import Any

__all__ = [
    "AttrValue",
    "LayerPattern",
    "ModelTransformer",
    "NBitRegistry",
    "NBitScheme",
    "NBitTransforms",
    "Pruning",
    "QuantizeLayer",
    "QuantizeWrapper",
    "SavedModel",
    "TensorProto",
    "calibrator",
    "configure_threads",
    "keras",
    "lite",
    "load_lazy_parts",
    "quantization",
    "quantize_calibrated",
    "quantizers",
    "sparsity",
    "strip_pruning",
    "tf",
    "without_autograph",
]

# TFMOT works on Keras 2 alone; the variable makes tf.keras mean tf_keras.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Keras 3 models are read by Keras 3, whatever a configuration file in the home directory says.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Errors only: the rest of TensorFlow's log is about the build and the GPU that is not there.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Idle OpenMP threads sleep instead of spinning: several jobs may share the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras
    from tensorflow.core.framework import attr_value_pb2, tensor_pb2
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow_model_optimization.python.core.quantization.keras import (
        quantize_layer,
        quantize_wrapper,
    )
    from tensorflow_model_optimization.python.core.quantization.keras import (
        quantizers as _quantizers,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_registry,
        default_n_bit_quantize_scheme,
        default_n_bit_transforms,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations import (
        model_transformer,
        transforms,
    )
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

logging.getLogger("tensorflow").setLevel(logging.ERROR)
logging.getLogger("absl").setLevel(logging.ERROR)

# Everything here builds graphs from Keras' and TFMOT's layers, which bring their own control flow. AutoGraph
# rewriting their source first would change nothing, and take longer than a small network's training.
without_autograph: Any = tf.autograph.experimental.do_not_convert
sparsity: Any = tfmot.sparsity.keras
strip_pruning: Any = sparsity.strip_pruning
Pruning: Any = pruning_impl.Pruning
lite: Any = tf.lite
AttrValue: Any = attr_value_pb2.AttrValue
SavedModel: Any = saved_model_pb2.SavedModel
TensorProto: Any = tensor_pb2.TensorProto
quantization: Any = tfmot.quantization.keras
quantizers: Any = _quantizers
QuantizeLayer: Any = quantize_layer.QuantizeLayer
QuantizeWrapper: Any = quantize_wrapper.QuantizeWrapperV2
NBitRegistry: Any = default_n_bit_quantize_registry
NBitTransforms: Any = default_n_bit_transforms
ModelTransformer: Any = model_transformer.ModelTransformer
LayerPattern: Any = transforms.LayerPattern
NBitScheme: Any = default_n_bit_quantize_scheme.DefaultNBitQuantizeScheme
quantize_calibrated: Any = mlir_quantize

_LAZY = (
    "ai_edge_litert.interpreter",
    "h5py",
    "keras",
    "litert_quantizer.quantizer",
    "tensorflow.lite.python.lite",
    "tensorflow.lite.python.optimize.calibrator",
    "tensorflow.python.data.experimental",
    "tf_keras.src.saving.legacy.hdf5_format",
    "tf_keras.src.saving.saving_lib",
)


def load_lazy_parts() -> None:
    """Import what TensorFlow would import at first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LAZY:
            import_module(name)
        _ = (lite.TFLiteConverter, lite.Optimize, keras.optimizers.legacy.Adam, sparsity.UpdatePruningStep)


def calibrator() -> Any:
    """The module of TensorFlow's calibrator, which measures ranges in a float ``.tflite``."""
    return import_module("tensorflow.lite.python.optimize.calibrator")


def configure_threads(threads: int) -> None:
    """Use `threads` threads in an operation and between operations; 0 leaves TensorFlow's own choice.

    RuntimeError when TensorFlow has computed already with another number: it cannot be changed then.
    """
    for setting in (tf.config.threading,):
        if (threads, threads) == (
            setting.get_intra_op_parallelism_threads(),
            setting.get_inter_op_parallelism_threads(),
        ):
            return
        setting.set_intra_op_parallelism_threads(threads)
        setting.set_inter_op_parallelism_threads(threads)
