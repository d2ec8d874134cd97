"""The command `blda import-weights`, for a checkout."""

from blda_video.commands.import_weights import main

if __name__ == "__main__":
    main()
