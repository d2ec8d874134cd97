"""Figures of logit statistics: the numbers to draw, single panels, and the whole figure.

It may import what `balance` may, and alone may import matplotlib.
"""
