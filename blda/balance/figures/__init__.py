"""Figures of logit statistics: the numbers that are drawn, single panels, and the whole sheet.

It may import what `balance` may, and matplotlib only here.
"""
