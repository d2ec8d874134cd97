"""Balanced learning, the core of the paper: distributions of logits per class, their alignment to shared anchors, the
balanced losses, and figures of the statistics.

It may import `data`, and `models` for the type that a network returns in training.
"""
