"""The command `blda show-statistics`, for a checkout."""

from blda_video.commands.show_statistics import main

if __name__ == "__main__":
    main()
