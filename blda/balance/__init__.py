"""Balanced learning, the core of the paper: distributions of logits per class, alignment to shared anchors, and the
losses and figures made of them.

It may import `data`, and `models` for the type that a network returns in training.
"""
