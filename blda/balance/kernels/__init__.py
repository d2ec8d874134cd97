"""Compiled kernels for counting, fitting and the loss: numba on the CPU, Triton on a GPU. Plain torch computes the same
results where neither is available.

It may import the logit grid and the mixture type of `balance`, and the ignored label; nothing else of the package.
"""
