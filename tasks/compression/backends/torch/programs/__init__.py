"""Networks without layers to train: ``.onnx`` files as they were uploaded, quantised and delivered as such.

networks     the program, to be called on samples
loading      from the file
quantize     by ONNX Runtime
"""
