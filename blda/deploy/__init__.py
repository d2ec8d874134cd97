"""A trained network in use: loading it from a run, a folder or the hub, predicting images with it, and exporting it.

It may import every room of `blda`; no room imports it but those of `blda_video`.
"""
