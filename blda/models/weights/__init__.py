"""Weights of others: safe reading, names turned into ours, and checkpoints of whole published networks.

It may import nothing else of `models`.
"""
