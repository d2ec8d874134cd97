"""Model card of a trained network: the README.md of its repository on the hub."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blda.deploy.trained_segmenter import TrainedSegmenter

MEANS = ("mIoU", "mAcc", "std")
_HEAD = """---
library_name: blda
pipeline_tag: image-segmentation
tags: [semantic-segmentation, domain-adaptation, blda]
---
"""


def model_card(segmenter: TrainedSegmenter, name: str, command: str | None = None) -> str:
    """Write a model card: use, network, classes, scores and the command that trained the network.

    name: of the repository on the hub. command: None for the one that repeats the run from the config beside the card.
    """
    settings = segmenter.origin.settings
    trained = command or f"blda train config.yaml run=runs/{settings.get('method', 'blda')}"
    parts = [
        f"{_HEAD}\n# {_title(settings)}",
        "A network for semantic segmentation, adapted from a labelled source domain to an unlabelled target "
        "domain with the library blda (*Balanced Learning for Domain Adaptive Semantic Segmentation*, ICML 2025).",
        f'## Use\n\n```python\nimport blda\n\nsegmenter = blda.load("{name}")  # or the folder of these files\n'
        'prediction = segmenter.predict("image.png")\nprediction.labels, prediction.probabilities\n'
        'prediction.overlay().save("overlay.png")\n```',
        f"## Network\n\n{_network(segmenter)}",
        "## Classes\n\n" + _table(("index", "class"), enumerate(segmenter.classes)),
        f"## Scores\n\n{_scores(segmenter)}",
        f"## Training\n\n```\n{trained}\n```\n\nAll settings are in `config.yaml`. " + _data(settings),
    ]
    return "\n\n".join(parts) + "\n"


def _title(settings: Mapping[str, Any]) -> str:
    encoder, head = (settings["model"][part] for part in ("encoder", "head"))
    variant = encoder.get("variant") or encoder.get("model") or encoder.get("depth") or ""
    variant = variant if isinstance(variant, str | int) else ""
    return f"{head['name']} on {encoder['name']} {variant}".strip() + f", method {settings.get('method', 'blda')}"


def _network(segmenter: TrainedSegmenter) -> str:
    evaluation, weights = segmenter.config.evaluation, sum(each.numel() for each in segmenter.network.parameters())
    rows = [
        ("parameters", f"{weights:,}"),
        ("input", "RGB from 0 to 1; the normalisation is part of the network"),
        ("images are resized to (height, width)", list(segmenter.size) if segmenter.size else "their own size"),
        ("windows", list(evaluation.window) if evaluation.window else "none"),
        ("averaged with the mirror image", "yes" if evaluation.flip else "no"),
        ("precision", segmenter.config.training.precision),
        ("calibrated", f"yes, tau {segmenter.calibration.tau:g}" if segmenter.calibration else "no"),
    ]
    return _table(("", ""), rows)


def _scores(segmenter: TrainedSegmenter) -> str:
    scores = segmenter.origin.scores
    means = [(name, _percent(scores[name])) for name in MEANS if name in scores]
    if not means:
        return "None were recorded with this network; measure it with `blda evaluate`."
    classes = [(name, _percent(scores.get(f"iou/{name}"))) for name in segmenter.protocol.classes]
    uncalibrated = " They are those of the network without its calibration." if segmenter.calibration else ""
    title = f"Protocol {scores.get('protocol', segmenter.protocol.name)}, percent, last checkpoint.{uncalibrated}"
    return f"{title}\n\n{_table(('score', ''), means)}\n\n{_table(('class', 'IoU'), classes)}"


def _data(settings: Mapping[str, Any]) -> str:
    parts = {part: settings.get(part, {}) for part in ("source", "target", "evaluation")}
    members = {part: value if isinstance(value, list) else [value] for part, value in parts.items()}
    names = {part: [each.get("reader", {}).get("name") for each in data] for part, data in members.items()}
    named = ", ".join(f"{part} {' + '.join(filter(None, found))}" for part, found in names.items() if any(found))
    return f"Data: {named}." if named else ""


def _percent(value: float | None) -> str:
    return "not seen" if value is None or math.isnan(value) else f"{value:.2f}"


def _table(head: tuple[str, str], rows: Any) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines)
