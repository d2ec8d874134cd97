"""Layouts: how drives of the street world become files with the names and encodings of real data sets.

It may import the simulator, and the constants of the readers that read these files.
"""
