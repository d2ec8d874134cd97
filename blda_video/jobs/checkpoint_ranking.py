"""Ranking of checkpoints by criteria that need no labels of the target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from blda import atomic
from blda.build.data_factory import joined
from blda.build.run import Run
from blda.calibration.unlabelled_criteria import CRITERIA, UnlabelledCriteria, mean_iou, mean_ranks
from blda.config.classification import ClassifyConfig
from blda.data.loader import evaluation_loader
from blda.data.sample import Sample
from blda.data.segmentation_dataset import EvaluationDataset
from blda.engine import checkpoint
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.clips.clip_dataset import EvaluationClips
from blda_video.jobs.restored_run import restored
from blda_video.temporal_metrics import TemporalConsistency


@dataclass(frozen=True)
class Ranked:
    """A checkpoint with its criteria (see `UnlabelledCriteria`) and its score, the mean rank in [0, 1]."""

    path: Path
    criteria: dict[str, float]
    score: float

    def numbers(self) -> dict[str, Any]:
        """Return the entry of the report in JSON."""
        return {"checkpoint": str(self.path), "score": self.score, **atomic.finite(self.criteria)}


def rank(runs: Sequence[Path], overrides: Sequence[str] = (), images: int = 60) -> list[Ranked]:
    """Score every checkpoint of some runs on their target's training images; the best one comes first.

    runs: folders, see `checkpoints_of`. images: number of target images, spread over the data set.
    Raises ValueError for fewer than two checkpoints and for runs that differ in classes or target.
    """
    if images < 1:
        raise ValueError(f"--images is {images}; it must be at least 1")
    folders = checkpoints_of(runs)
    if sum(map(len, folders.values())) < 2:
        found = ", ".join(str(path) for paths in folders.values() for path in paths)
        raise ValueError(f"{found} is the only checkpoint; keep several by training.keep=20, or give more runs")
    first, judged = None, []
    for paths in folders.values():
        run, student = restored(paths[-1], overrides)
        first = first or run
        _require_alike(first, run, paths[0].parent)
        data = Target(run, images)
        judged += [(path, data.judge(path, student)) for path in paths]
    scores = mean_ranks([criteria for _, criteria in judged])
    ranked = [Ranked(path, criteria, score) for (path, criteria), score in zip(judged, scores, strict=True)]
    # Of equals, the one that trained longer.
    return sorted(ranked, key=lambda each: (each.score, checkpoint.step_of(each.path)), reverse=True)


def checkpoints_of(runs: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the checkpoints in each folder, by step; a run's folder may hold them, or folders of methods that do."""
    result = {}
    for run in runs:
        if not run.is_dir():
            raise FileNotFoundError(f"no run at {run}; give the folder that holds step_*.pt, or whose folders do")
        found = {each: checkpoint.all_of(each) for each in (run, *sorted(run.iterdir())) if each.is_dir()}
        found = {folder: paths for folder, paths in found.items() if paths}
        if not found:
            raise ValueError(f"{run} holds no step_*.pt; give the folder of a run")
        result.update(found)
    return result


class Target:
    """Target images of a run, with the frame before where there is one, and the judgement of a network on them."""

    def __init__(self, run: Run, images: int) -> None:
        if isinstance(run.config, ClassifyConfig):
            raise ValueError("this run classifies whole images; only runs that segment can be ranked")
        self.run, self.dataset = run, _spread(target_frames(run), images)
        self.source_pixels = run.batches.frequency().cpu()

    def judge(self, path: Path, student: nn.Module) -> dict[str, float]:
        """Load the student's weights of a checkpoint and return its criteria."""
        states = checkpoint.read(path)
        checkpoint.restore(path, states, {"student": student})
        predict = self.run.evaluation.predictor(student)
        teacher = None
        if "teacher" in states and self.run.config.self_training.teacher is None:
            teacher = self.run.networks.teacher(student, self.run.accelerator.autocast)
            checkpoint.restore(path, states, {"teacher": teacher})
            teacher = self.run.evaluation.predictor(teacher)
        criteria, temporal = UnlabelledCriteria(self.source_pixels), TemporalConsistency(self.run.class_names)
        for sample in self._samples(f"{path.parent.name}/{path.stem}"):
            logits, mirrored = predict(sample.image), predict(sample.image.flip(-1)).flip(-1)
            criteria.update(logits, mirrored, teacher and teacher(sample.image))
            temporal.update(sample, logits, predict)
        pairs = temporal.counts[0].cpu()
        agreement = mean_iou(pairs, self.source_pixels > 0) if pairs.any() else math.nan
        return {**criteria.compute(), "temporal_mIoU": agreement}

    def _samples(self, title: str) -> Iterator[Sample]:
        run = self.run
        loader = evaluation_loader(self.dataset, run.config.training.workers, run.accelerator.device.type == "cuda")
        for sample in tqdm(loader, desc=title, disable=not run.config.log.bar, leave=False):
            yield sample.to(run.accelerator.device)


def target_frames(run: Run) -> Dataset[Sample]:
    """Return the target's whole training images without labels, as clips with the frame before if they are a video."""
    return joined(run.config, "target", partial(_member_frames, run))


def _member_frames(run: Run, number: int) -> Dataset[Sample]:
    readers = run.data.readers
    reader, size = readers.target(number), readers.resize("target", number)
    if not hasattr(reader, "neighbour") or not any(reader.neighbour(frame, -1) for frame in reader.frames):
        return EvaluationDataset(reader, None, size)
    own = getattr(run.config, "flow", {})
    flow = estimator_of("flow", own if own.get("name") in ESTIMATORS else "dis-medium")
    return EvaluationClips(reader, None, size, (-1,), flow)


def report(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Return the ranking for JSON: the chosen checkpoint, and all in order."""
    return {
        "chosen": str(ranked[0].path),
        "labels_of_target": "none",
        "checkpoints": [each.numbers() for each in ranked],
    }


def table(ranked: Sequence[Ranked]) -> str:
    """Return the ranking for the terminal, the best checkpoint first."""
    names = [f"{each.path.parent.name}/{each.path.stem}" for each in ranked]
    width = max(map(len, names))
    lines = [f"{'checkpoint':<{width}}  score  " + "  ".join(CRITERIA)]
    for name, each in zip(names, ranked, strict=True):
        cells = (f"{each.criteria[key]:>{len(key)}.3f}" for key in CRITERIA)
        lines.append(f"{name:<{width}}  {each.score:.3f}  " + "  ".join(cells))
    return "\n".join(lines)


def _require_alike(first: Run, run: Run, folder: Path) -> None:
    """Raise ValueError if two runs have other classes or another target: their criteria could not be compared."""
    if run.class_names != first.class_names:
        raise ValueError(f"{folder} has other classes than the first run; rank runs of one set of classes")
    if run.config.target.reader != first.config.target.reader:
        raise ValueError(f"{folder} has another target.reader than the first run; rank runs of one target")


def _spread(dataset: Dataset[Sample], images: int) -> Dataset[Sample]:
    chosen = torch.linspace(0, len(dataset) - 1, min(images, len(dataset)), dtype=torch.float64).round().long()
    return Subset(dataset, chosen.tolist())
