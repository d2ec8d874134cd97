"""The command `blda make-world`, for a checkout."""

from blda_video.commands.make_world import main

if __name__ == "__main__":
    main()
