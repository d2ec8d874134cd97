"""Schema of a run as frozen dataclasses, and loading of YAML with bases, overrides and errors that name the key.

It may import no other room; below `build` nobody reads a config.
"""
