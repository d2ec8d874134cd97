"""Weight files of other libraries: safe reading, renaming of parameters, and checkpoints of whole published networks.

It may import nothing else of `models`.
"""
