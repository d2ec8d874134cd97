"""Jobs: the work of each command, which only reads its arguments and calls one; `blda_video` offers some to Python.

It may import every room of `blda` and of `blda_video` but `commands`.
"""
