"""Readers of sequences and video files, one data set a file: they know the frames around a frame.

It may import the video files of `clips`, and of the image core `data`.
"""
