"""Video adaptation: clips, optical flow and propagated labels on top of the image core `blda`.

This package may import `blda`, never the reverse. Each subpackage names the others that it may import.
"""
