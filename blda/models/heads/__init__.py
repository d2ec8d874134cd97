"""Heads: feature maps of an encoder to logits (B, C, h, w).

It may import the layers of `models`.
"""
