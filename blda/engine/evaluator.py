"""Evaluation of a model on a labelled data set that is split over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from blda.data.loader import evaluation_loader
from blda.data.sample import Sample
from blda.engine.inference import Predictor
from blda.engine.metrics import Confusion, Metric


@dataclass(frozen=True)
class Result:
    """Result of an evaluation.

    scores: number by name. first: the first image of this process with its logits, for pictures. confusion: counts
    (C, C) on the CPU, rows = truth, columns = prediction; None when no metric counts them.
    """

    scores: dict[str, float]
    first: tuple[Sample, Tensor] | None
    confusion: Tensor | None = None


class Evaluator:
    """Evaluator of models on one data set.

    metrics: builds fresh metrics for one evaluation, in a fixed order. accelerator: of this process. workers: loader
    processes. bar: show progress. batch: images at a time; more than one needs images of one size.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        metrics: Callable[[], Sequence[Metric]],
        accelerator: Accelerator,
        workers: int = 0,
        bar: bool = True,
        batch: int = 1,
    ) -> None:
        self.metrics, self.accelerator = metrics, accelerator
        self.bar = bar and accelerator.is_main_process
        rank, world = accelerator.process_index, accelerator.num_processes
        self.loader = evaluation_loader(dataset, workers, accelerator.device.type == "cuda", rank, world, batch)

    def __call__(self, predict: Predictor) -> Result:
        """Evaluate `predict`; every process returns the scores of the whole data set."""
        metrics, first = self.metrics(), None
        for sample in tqdm(self.loader, desc="evaluate", disable=not self.bar, leave=False):
            measured = self.measure(sample, predict, metrics)
            first = first or measured
        scores: dict[str, float] = {}
        for metric in metrics:
            # A process without an image has not met the device yet.
            metric.counts = self.accelerator.reduce(metric.counts.to(self.accelerator.device), "sum")
            scores.update(metric.compute())
        confusion = next((metric.counts.cpu() for metric in metrics if isinstance(metric, Confusion)), None)
        return Result(scores, first, confusion)

    def measure(self, sample: Sample, predict: Predictor, metrics: Sequence[Metric]) -> tuple[Sample, Tensor]:
        """Predict a batch of the loader and update the metrics; return it on the device, with its logits."""
        sample = sample.to(self.accelerator.device)
        logits = _predicted(predict, sample)
        for metric in metrics:
            metric.update(sample, logits, predict)
        return sample, logits


def _predicted(predict: Predictor, sample: Sample) -> Tensor:
    try:
        return predict(sample.image)
    except ValueError as error:
        raise ValueError(f"{', '.join(sample.name)}: {error}") from error
