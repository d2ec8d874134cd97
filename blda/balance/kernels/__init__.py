"""Compiled counting, fitting and loss: numba on the CPU, Triton on a GPU, each equal to the plain torch beside which it
is used.

It may import the logit grid and the mixture type of `balance`, and the ignored label; nothing else of the package.
"""
