"""The simulator: streets, what stands and moves in them, the renderer with exact flow, and the looks of two cameras.

It may import the class list of the image core's `data`.
"""
