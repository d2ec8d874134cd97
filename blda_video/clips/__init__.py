"""Clips: key frames with the frames around them and the flow between, all cut alike; their readers, checks and the flow
they need from a store.

It may import `flow`, and of the image core `data`.
"""
