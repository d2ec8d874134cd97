"""The command `blda compute-flow`, for a checkout."""

from blda_video.commands.compute_flow import main

if __name__ == "__main__":
    main()
