"""Segmentation networks and image classifiers, built of an encoder and a head, and wrappers around them: HRDA's two
resolutions, sliding windows and test-time augmentation.

It may import `data`.
"""
