"""Encoders: image (B, 3, H, W) to a list of feature maps, with their own pretrained weights.

It may import the layers, the segmenter's constants and the weights of `models`.
"""
