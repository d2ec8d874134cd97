"""Post-hoc balancing of a trained network: fit statistics of its logits, sweep the strength tau, write the file that
corrects its predictions.

It may import `balance`, `data` and `engine`.
"""
