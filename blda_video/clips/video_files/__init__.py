"""Exact frames of video files: an index of times, decoders, and files kept open in small numbers.

It may import the frame type of the image core's `data`.
"""
