"""Conversion of a published checkpoint of a whole network into one of this project."""

from pathlib import Path

from blda.config import loading
from blda.engine import checkpoint, runtime
from blda.models.weights.external_checkpoint import ExternalCheckpoint
from blda_video.jobs import kinds


def convert(
    file: str, config: str, overrides: list[str], output: Path, network: str, without: list[str]
) -> tuple[ExternalCheckpoint, tuple[str, ...]]:
    """Write the checkpoint and, beside it, the config; return the imported checkpoint and the classes."""
    beside = output.parent / "config.yaml"
    if output.exists() or beside.exists():
        raise ValueError(f"{output.parent} holds a run; choose --output in another folder")
    settings, compose = kinds.loaded(config, overrides)
    published = ExternalCheckpoint.read(file)
    run = compose(settings, runtime.start("no"))
    student = run.networks.student(pretrained=False)
    published.fill(student, network, run.class_names, tuple(without))
    output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(output, {"student": student})
    loading.save(settings, beside)
    return published, run.class_names
