"""Logit statistics of a BLDA checkpoint, as a figure and as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blda import atomic
from blda.balance import bias_agreement
from blda.balance.figures import statistics_figure
from blda.balance.figures.cells import NEGATIVE, POSITIVE, cells, median_correction
from blda.balance.logit_statistics import LogitStatistics
from blda.build.checkpoint_search import checkpoint_of
from blda.config import loading
from blda.data import measured_bias
from blda.engine import checkpoint, runtime
from blda.engine.run_log import read_log
from blda_video.jobs import kinds


@dataclass(frozen=True)
class Shown:
    """Logit statistics of a checkpoint.

    truth: measured bias (C,), None if the checkpoint's step was not evaluated.
    """

    source: LogitStatistics
    target: LogitStatistics
    classes: tuple[str, ...]
    tau: float
    truth: Tensor | None


def read(path: Path) -> Shown:
    """Read the statistics in a checkpoint, with class names and tau from the config beside it."""
    path = checkpoint_of(path)
    states = checkpoint.read(path)
    names = ("source_statistics", "target_statistics")
    if not all(name in states for name in names):
        raise ValueError(f"{path} holds no logit statistics, only {', '.join(states)}; method=blda keeps them")
    beside = path.parent / "config.yaml"
    kind, compose = kinds.of_run(beside)
    config = loading.load(beside, kind)
    run = compose(config, runtime.start("no"))
    source, target = run.losses.statistics("blda")
    checkpoint.restore(path, states, dict(zip(names, (source, target), strict=True)))
    return Shown(source, target, run.class_names, config.blda.tau, _measured(path.parent, states, run.class_names))


def draw(shown: Shown, chosen: list[str] | None, path: Path) -> None:
    """Draw the figure of all classes, or of the cells of the chosen ones, and write it to `path`."""
    pair, classes = (shown.source, shown.target), shown.classes
    if chosen:
        drawn = statistics_figure.closeup(*pair, classes, chosen)
    else:
        drawn = statistics_figure.overview(*pair, classes, shown.tau, shown.truth)
    atomic.write(path, lambda file: drawn.savefig(file, format=path.suffix.removeprefix(".") or "png"))


def numbers(shown: Shown) -> dict[str, Any]:
    """Return the numbers of the figure for JSON; null stands for what was never estimated or measured."""
    source, target = cells(shown.source), cells(shown.target)
    by_domain = {"source": source, "target": target}
    truth = torch.full_like(target.bias, torch.nan) if shown.truth is None else shown.truth
    correlation = bias_agreement.rank_correlation(target.bias, truth, target.estimated)
    return {
        "classes": shown.classes,
        "tau": shown.tau,
        "updates": {name: each.updates for name, each in by_domain.items()},
        "estimated": {name: each.estimated.tolist() for name, each in by_domain.items()},
        "bias": {name: _plain(each.bias) for name, each in by_domain.items()} | {"measured": _plain(truth)},
        "bias_rank_correlation": _plain(torch.tensor(correlation)),
        "median": {name: _plain(each.median) for name, each in by_domain.items()},
        "correction_at_median": {name: _plain(median_correction(each, source)) for name, each in by_domain.items()},
        "anchor_quantiles": {
            name: _plain(source.anchor_quantiles[row]) for name, row in (("positive", POSITIVE), ("negative", NEGATIVE))
        },
    }


def _measured(folder: Path, states: dict[str, Any], classes: tuple[str, ...]) -> Tensor | None:
    """Read the bias measured at the checkpoint's step from the log of its run."""
    log, step = folder / "metrics.jsonl", states["trainer"]["step"]
    for line in read_log(log) if log.exists() else ():
        found = {key.removeprefix("target/"): value for key, value in line.items() if key.startswith("target/bias/")}
        if found and line["step"] == step:
            return measured_bias.of_scores(found, classes)
    return None


def _plain(values: Tensor) -> Any:
    """Convert a tensor to lists of numbers, with null for nan."""
    if values.ndim:
        return [_plain(each) for each in values]
    return values.item() if values.isfinite() else None
