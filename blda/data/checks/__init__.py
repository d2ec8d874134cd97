"""Checks of a data set before a run: what is there, what opens, which classes it shows, and the report.

It may import the rest of `data`.
"""
