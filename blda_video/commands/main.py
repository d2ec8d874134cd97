"""The console command `blda`: finds the command that is asked for and hands it the arguments."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

COMMANDS = {
    "train": "adapt a network to unlabelled images or video",
    "evaluate": "measure a checkpoint on labelled data",
    "predict": "label a video, or a folder of images or frames",
    "calibrate": "balance a trained network without training it",
    "rank": "choose a checkpoint without labels of the target",
    "draw": "draw what checkpoints predict beside the truth",
    "show-statistics": "draw the logit statistics of a checkpoint",
    "check-data": "check the data of a run before it starts",
    "compute-flow": "compute and store the optical flow of a run",
    "train-motion": "train the network that tells classes by flow alone",
    "make-world": "make miniatures of data sets, and rehearse a run",
    "import-weights": "convert a published checkpoint",
    "export": "write a network as ONNX or torch.export",
}
"""Command -> what it does; its module has the same name, with underscores."""
VERSION = ("-V", "--version")
HELP = ("-h", "--help", "help")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name; exit code 2 for one that does not exist."""
    argv = sys.argv[1:] if argv is None else list(argv)
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in VERSION:
        print(f"blda {metadata.version('blda-video')}")
    elif name in HELP:
        print(overview())
    elif name in COMMANDS:
        importlib.import_module(f"blda_video.commands.{name.replace('-', '_')}").main(rest)
    else:
        from blda.spelling import nearest

        print(f"error: unknown command '{name}'; {nearest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def overview() -> str:
    """Return the help: an example first, then all commands."""
    lines = [f"  {name:<16}{about}" for name, about in COMMANDS.items()]
    return "\n".join(
        [
            "Adapt segmentation networks to unlabelled images and video. For example:",
            "",
            "    blda train demo",
            "    blda predict runs/demo/blda drive.mp4 --output drive_labels.mp4",
            "",
            "Commands; each has --help:",
            "",
            *lines,
            "",
            "Several GPUs: accelerate launch -m blda_video.commands.train CONFIG. Version: blda --version.",
        ]
    )


if __name__ == "__main__":
    main()
