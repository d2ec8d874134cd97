"""The command `blda check-data`, for a checkout."""

from blda_video.commands.check_data import main

if __name__ == "__main__":
    main()
