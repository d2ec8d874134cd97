"""The command `blda predict`, for a checkout."""

from blda_video.commands.predict import main

if __name__ == "__main__":
    main()
