"""Construction of a run: the one place that reads a config and calls constructors with keywords.

It may import every room of `blda`; no room imports it.
"""
