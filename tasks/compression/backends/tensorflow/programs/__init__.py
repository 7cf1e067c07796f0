"""Networks without Keras layers: what a SavedModel's signature computes, and float ``.tflite`` files.

networks     the two, to be called as Keras models are
loading      from the files
layers       what stands for layers: the operations of the float ``.tflite``
integers     full_int8 and int16x8 of a ``.tflite`` that is no Keras model any more
keeping      the results of their steps, on disk
"""
