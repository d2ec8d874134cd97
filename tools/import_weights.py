"""Turn a published checkpoint of a whole network into one that is evaluated and trained from here.

    python tools/import_weights.py daformer.pth --config configs/gta2cs.yaml --output runs/daformer/step_000000.pt
    python tools/evaluate.py runs/daformer/step_000000.pt
    python tools/train_image.py configs/gta2cs.yaml model.weights=runs/daformer/step_000000.pt

Reads mmsegmentation 0.x files, as DAFormer, HRDA, MIC and BLDA publish them (DAFormer, SegFormer and DeepLab-v2 heads,
with or without HRDA's attention), those of the SegFormer authors, and transformers' SegFormer. The config says which
network it must be and with which classes; key=value replaces any key of it. Nothing but tensors, numbers and texts is
unpickled.

Weights only: training starts at step 0 with a fresh optimizer, and the teacher as a copy of the network.
"""

from pathlib import Path

import kinds
from blda.config import loading
from blda.engine import checkpoint, runtime
from blda.models.weights.external_checkpoint import NETWORKS, ExternalCheckpoint
from command import one_line_errors, parser


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("file", help="the published .pth, .pt, .bin or .safetensors")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the config")
    arguments.add_argument("--config", type=Path, required=True, help="YAML file of a run with this network")
    arguments.add_argument("--output", type=Path, required=True, help="step_000000.pt in a folder of its own")
    arguments.add_argument(
        "--network", choices=NETWORKS, default="model", help="student (model) or teacher (ema_model)"
    )
    arguments.add_argument(
        "--without", nargs="+", default=[], metavar="PREFIX", help="leave out stored names that begin so"
    )
    given = arguments.parse_intermixed_args()
    with one_line_errors(str(given.config), *given.overrides):
        published, classes = convert(
            given.file, given.config, given.overrides, given.output, given.network, given.without
        )
    trained = "" if published.step is None else f" after {published.step} steps"
    named = "as the file names them" if published.classes else "in the config's order; the file does not name them"
    print(f"{given.output}: '{given.network}' of {published.path}{trained}\n{len(classes)} classes, {named}:")
    print(", ".join(classes))


def convert(
    file: str, config: Path, overrides: list[str], output: Path, network: str, without: list[str]
) -> tuple[ExternalCheckpoint, tuple[str, ...]]:
    """Write the checkpoint and, beside it, the config; return the imported checkpoint and the classes."""
    beside = output.parent / "config.yaml"
    if output.exists() or beside.exists():
        raise ValueError(f"{output.parent} holds a run; choose --output in another folder")
    kind, compose = kinds.of_run(config)
    settings = loading.load(config, kind, overrides)
    published = ExternalCheckpoint.read(file)
    run = compose(settings, runtime.start("no"))
    student = run.networks.student(pretrained=False)
    published.fill(student, network, run.class_names, tuple(without))
    output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(output, {"student": student})
    loading.save(settings, beside)
    return published, run.class_names


if __name__ == "__main__":
    main()
