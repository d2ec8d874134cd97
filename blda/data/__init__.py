"""Everything between files and batches: samples, draws, samplers, loaders, transforms, label maps and the protocols
that score them.

It may import no other room.
"""
