"""Jobs: what each command does, as functions for Python; a command only reads its arguments and calls one.

It may import every room of `blda` and of `blda_video` but `commands`.
"""
