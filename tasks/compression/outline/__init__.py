"""Outlines of model files: what is in them, read without a framework.

    outline = read_outline(Path("model.keras"))
    for layer in outline.listed():
        print(layer.path, layer.kind, layer.parameters)

    facts          the outline itself, all JSON
    reading        from a file to its outline
    architecture   layers and calls of a Keras configuration     (shapes)
    stored         which stored array is which weight            (archive, hdf5)
    tflite         the same of a .tflite file
    onnx           the same of an .onnx file
    skeleton       an outline as a graph, as structured pruning and counting of MACs want it
    bounds         how much of a stranger's file is looked at

Files are strangers': read them in a process that may be lost (tasks.planning).
"""

from __future__ import annotations

from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Call, Layer, Outline, Refusal, Weight

__all__ = ["Bounds", "Call", "Layer", "Outline", "Refusal", "Weight"]
