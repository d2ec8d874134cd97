"""The command `blda evaluate`, for a checkout."""

from blda_video.commands.evaluate import main

if __name__ == "__main__":
    main()
