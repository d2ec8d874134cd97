"""Post-hoc balancing of a trained network: fits statistics of its logits, measures several strengths tau and writes
the calibration file that corrects its predictions; and criteria that judge a network without labels.

It may import `balance`, `data` and `engine`.
"""
