"""Prediction of a video frame by frame: the source of frames, fusion along the flow, balancing by statistics that
follow the video, and the written video.

It may import `clips`, `flow` and `propagation`, and of the image core `data`, `engine`, `balance` and `calibration`.
"""
