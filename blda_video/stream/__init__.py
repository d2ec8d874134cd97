"""Prediction of a video frame by frame, fused along the flow: the source of frames, the fusion, and the written video.

It may import `clips`, `flow` and `propagation`, and of the image core `data`, `engine`,
`balance` and `calibration`.
"""
