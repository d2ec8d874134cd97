"""Readers of data sets as they are downloaded, one file each, and the decoding of image and label files.

It may import the label maps of `data`.
"""
