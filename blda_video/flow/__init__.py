"""Optical flow: the geometry of vectors, estimators, file formats of other projects, and stores on disk; it knows
nothing of clips.

It may import, of the image core, `config` for components by name, `data` for the headers of image files, and `models`
for the reading of weights.
"""
