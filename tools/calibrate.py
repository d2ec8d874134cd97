"""The command `blda calibrate`, for a checkout."""

from blda_video.commands.calibrate import main

if __name__ == "__main__":
    main()
