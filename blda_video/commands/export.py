"""Export a trained network to a file that runs without this package.

    blda export runs/demo/blda --size 256 512
    blda export runs/x/blda/step_040000.pt --format torch.export --size 512 1024 --dynamic --calibration FILE

The file takes RGB images, float32 (batch, 3, height, width) from 0 to 1, and returns logits, or with --calibration
balanced scores, of every class at the image's size; the normalisation is inside. Class names, sizes and the protocol
are stored in it: metadata_props of ONNX, metadata.json of torch.export. A network that was saved with its calibration
keeps it.

The network alone is exported, without the windows and mirror images of the run's `evaluation`. One image of one size,
unless --dynamic frees batch, height and width; HRDA and timm's tf_* have no free size.

The file is run by onnxruntime, or loaded again by torch, and compared with the checkpoint. Prints the largest
difference as JSON. Above 1e-3 nothing is written and the exit code is 1. Needs: pip install 'blda-video[export]'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", help="step_*.pt, a run's folder for its newest, or a name of the hub")
    arguments.add_argument("--format", choices=("onnx", "torch.export"), default="onnx", help="(default: %(default)s)")
    arguments.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the images (default: evaluation.size)"
    )
    arguments.add_argument("--dynamic", action="store_true", help="leave batch, height and width free")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="balance inside the graph")
    arguments.add_argument("--output", type=Path, metavar="FILE", help="(default: beside the checkpoint)")
    given = parse(arguments, argv)
    with one_line_errors():
        from blda_video.jobs.checkpoint_export import export_checkpoint

        size = tuple(given.size) if given.size else None
        report, check = export_checkpoint(
            given.checkpoint, given.format, size, given.dynamic, given.calibration, given.output
        )
        print(json.dumps(report, indent=1))
        if not check.passed:
            raise ValueError(
                f"the exported network differs from the checkpoint by {check.largest:.3g}, more than "
                f"{report['limit']}; nothing was written, try another --format"
            )


if __name__ == "__main__":
    main()
