"""Heads: modules that turn the feature maps of an encoder into logits (B, C, h, w).

It may import the layers of `models`.
"""
