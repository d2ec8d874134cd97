"""The command `blda train`, for configs of images, segmentation or classification.

accelerate launch tools/train_image.py CONFIG [VARIANT] [key=value ...] [--resume]
"""

from blda_video.commands.train import main

if __name__ == "__main__":
    main(kind="images")
