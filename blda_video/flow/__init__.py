"""Optical flow: the geometry of vectors, estimators, file formats of other projects, and stores on disk; it knows
nothing of clips.

It may import, of the image core, `config` for components by name, `models` for the reading of weights, and `data` for
the headers of PNG files and for remarks.
"""
