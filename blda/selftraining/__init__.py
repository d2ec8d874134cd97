"""Self-training on one page, and its parts: teacher, pseudo-labels, ClassMix, augmentation, masking and the further
loss terms; the supervised baseline too.

It may import `balance`, `data` and `models`.
"""
