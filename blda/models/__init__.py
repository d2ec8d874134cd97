"""Segmentation networks and image classifiers: an encoder and a head make a network, which may see windows, several
resolutions or mirrored views.

It may import `data`.
"""
