"""Pseudo-labels from all frames of a clip: the teacher's probabilities, warped to the key frame and combined by a rule,
one family of rules a file, and what the motion between the frames says of each class.

It may import `clips` and `flow`, and of the image core `data` and `selftraining`.
"""
