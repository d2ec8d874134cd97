"""Encoders: modules that turn images (B, 3, H, W) into a list of feature maps, with their pretrained weights.

It may import the layers, the segmenter's constants and the weights of `models`.
"""
