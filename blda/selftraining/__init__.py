"""Self-training (`self_training.py`) and its components: teacher, pseudo-labels, ClassMix, augmentation, masking and
further loss terms. The supervised baseline is here too.

It may import `balance`, `data` and `models`.
"""
