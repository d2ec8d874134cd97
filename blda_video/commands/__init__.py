"""Commands: `blda train`, `blda evaluate` and the others, one file each, which reads arguments and calls a job.

It may import every room of `blda` and of `blda_video`. A command imports its job, and with it torch, only once its
arguments are read: --help and a wrong option answer at once.
"""
