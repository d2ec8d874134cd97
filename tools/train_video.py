"""The command `blda train`, for configs of video.

accelerate launch tools/train_video.py CONFIG [VARIANT] [key=value ...] [--resume]
"""

from blda_video.commands.train import main

if __name__ == "__main__":
    main(kind="video")
