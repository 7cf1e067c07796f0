"""Quantisation-aware training: a network that rounds as its ``.tflite`` will is trained in its place.

flatten     one functional model of copied layers, nested models inlined
support     which layers can learn to be rounded, and why not the others
request     the layers of a network that a step rounds
scheme      TFMOT's rules of what is rounded, and more layers
layout      between which layers nothing is rounded
simulation  the network with TFMOT's fake quantisation, and the way back to the float network
ranges      where the ranges of activations begin
keeping     zeros and shared values, kept while training
delivery    the ``.tflite``, and the type every layer's weights have in it
rounding    the part that all this takes in a training
"""

from __future__ import annotations

__all__: list[str] = []
