"""Quantisation-aware training (Jacob et al. 2018): a network that rounds as its integer file will.

request      which layers learn to be rounded, and why not the others
roundings    weights and activations rounded, gradients let through
simulation   the network with those in it
delivery     the integer file of the network as trained
rounding     the part of a training that does all of it
"""
