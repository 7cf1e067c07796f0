"""Quantisation of float ``.tflite`` files, whichever framework they were converted from.

What is quantised are operations; a backend says which layer of its model each came from (`tracing.Traced`).
"""
