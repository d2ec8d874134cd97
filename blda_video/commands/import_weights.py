"""Turn a published checkpoint of a whole network into one that is evaluated and trained from here.

    blda import-weights daformer.pth --config gta2cs --output runs/daformer/step_000000.pt
    blda evaluate runs/daformer/step_000000.pt
    blda train gta2cs model.weights=runs/daformer/step_000000.pt

Reads mmsegmentation 0.x files, as DAFormer, HRDA, MIC and BLDA publish them (DAFormer, SegFormer and DeepLab-v2 heads,
with or without HRDA's attention), those of the SegFormer authors, and transformers' SegFormer. The config says which
network it must be and with which classes; key=value replaces any key of it. Nothing but tensors, numbers and texts is
unpickled.

Weights only: training starts at step 0 with a fresh optimizer, and the teacher as a copy of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import add_overrides, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("file", help="the published .pth, .pt, .bin or .safetensors")
    add_overrides(arguments)
    arguments.add_argument("--config", required=True, help="YAML file of a run with this network, or a shipped name")
    arguments.add_argument("--output", type=Path, required=True, help="step_000000.pt in a folder of its own")
    which = "student (model) or teacher (ema_model); a wrong name lists those of the file"
    arguments.add_argument("--network", metavar="NAME", default="model", help=which)
    arguments.add_argument(
        "--without", nargs="+", default=[], metavar="PREFIX", help="leave out stored names that begin so"
    )
    given = parse(arguments, argv)
    with one_line_errors(given.config, *given.overrides):
        from blda_video.jobs.weights_import import convert

        published, classes = convert(
            given.file, given.config, given.overrides, given.output, given.network, given.without
        )
        trained = "" if published.step is None else f" after {published.step} steps"
        named = "as the file names them" if published.classes else "in the config's order; the file does not name them"
        print(f"{given.output}: '{given.network}' of {published.path}{trained}\n{len(classes)} classes, {named}:")
        print(", ".join(classes))


if __name__ == "__main__":
    main()
