"""The command `blda draw`, for a checkout."""

from blda_video.commands.draw import main

if __name__ == "__main__":
    main()
