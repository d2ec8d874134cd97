"""Video adaptation: extends the image core `blda` by time.

It may import `blda`, never the reverse; each room says which others it may import.
"""
