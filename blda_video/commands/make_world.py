"""Make small street-world copies of data sets, to rehearse a run before a download, or a sheet to look at.

    blda make-world --like viper2csseq [mic]
    blda make-world --layout NAME [--root DIR] [--split train val] [--sequences 8] [--size 128 256] ...
    blda make-world --preview sheet.png

--like: writes ROOT/viper2csseq with all that the config reads (images, labels, lists, stored flow) and a config of 20
steps of a small network on it, and prints the command that trains and evaluates it. Made again, it replaces the last
rehearsal. --layout: writes one data set as its owners name and encode it; a finished split is left as it is.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = parse(arguments(), argv)
    with one_line_errors():
        from blda_video.jobs import world_making

        if given.preview is not None:
            world_making.preview(given.preview, tuple(given.size or (128, 256)), given.seed)
        elif given.layout is not None:
            for line in world_making.make_layout(given):
                print(line)
        else:
            made = world_making.make_like(given.like[0], given.like[1:], given.root)
            if given.run:
                from blda_video.jobs.training_job import train_config

                print(train_config(str(made), (), resume=False))
            else:
                print(f"blda train {made}")


def arguments() -> ArgumentParser:
    """Build the parser of the command line."""
    result = parser(__doc__)
    what = result.add_mutually_exclusive_group(required=True)
    like = "all that this config reads, with these variants, and a config to run"
    what.add_argument("--like", nargs="+", metavar="CONFIG", help=like)
    what.add_argument("--layout", metavar="NAME", help="one data set, in this layout; a wrong name lists all")
    what.add_argument("--preview", type=Path, metavar="PNG", help="image, labels and flow of both looks")
    result.add_argument("--run", action="store_true", help="with --like: train and evaluate on it at once")
    result.add_argument("--root", type=Path, help="folder; without, data/miniature, with --layout in it LAYOUT")
    result.add_argument("--look", choices=("source", "target"), help="clean game or grey camera; without, what suits")
    result.add_argument("--split", nargs="+", help="other splits have other streets; without, those of the layout")
    result.add_argument("--sequences", type=int)
    result.add_argument("--frames", type=int, help="frames of a sequence")
    result.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--labelled", type=int, nargs="+", metavar="FRAME", help="frame numbers that get labels")
    result.add_argument("--flow", action="store_true", help="also store the exact flow between consecutive frames")
    result.add_argument(
        "--density", type=float, default=1.0, help="factor of how frequent people, vehicles and posts are"
    )
    result.add_argument("--shift", type=float, default=1.0, help="of the look target: 0 has the colours of the source")
    result.add_argument("--workers", type=int, default=1, help="processes")
    return result


if __name__ == "__main__":
    main()
