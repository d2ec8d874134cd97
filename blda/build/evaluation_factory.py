"""Evaluation of a run: the prediction of whole images, and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelerate import Accelerator
from torch import Tensor, nn

from blda.build.data_factory import DataFactory
from blda.config.data_schema import Evaluation
from blda.engine.evaluator import Evaluator
from blda.engine.inference import Predictor
from blda.engine.metrics import Metric
from blda.models.test_time_augmentation import Flipped, Sliding

MetricFactory = Callable[[tuple[str, ...], Sequence], Metric]
"""From class names and protocols to a fresh metric."""


class EvaluationFactory:
    """Factory of predictors and evaluators.

    data: builds the data set. metrics: builds the metrics; the first one gives the run's score. batch: images at a
    time; more than one needs images of one size.
    """

    def __init__(
        self, data: DataFactory, accelerator: Accelerator, metrics: Sequence[MetricFactory], batch: int = 1
    ) -> None:
        self.data, self.config, self.accelerator = data, data.config, accelerator
        self._metrics, self.batch = metrics, batch

    def predictor(self, model: nn.Module, calibration: Callable[[Tensor], Tensor] | None = None) -> Predictor:
        """Build the predictor of whole images: in one pass or in windows, averaged with the mirror image or not.

        calibration: logits -> scores to predict from, None for the logits.
        """
        return Predictor(shown_as(self.config.evaluation, model), self.accelerator.autocast, calibration)

    def metrics(self) -> Sequence[Metric]:
        """Build fresh metrics of the run's classes and protocols."""
        return [metric(self.data.readers.class_names, self.data.readers.protocols) for metric in self._metrics]

    def evaluator(self) -> Evaluator:
        """Build the evaluator of this process's share."""
        settings, bar = self.config.training, self.config.log.bar
        return Evaluator(self.data.evaluation(), self.metrics, self.accelerator, settings.workers, bar, self.batch)


def shown_as(evaluation: Evaluation, model: nn.Module) -> nn.Module:
    """Wrap a network in what an evaluation shows it: windows of the image, its mirror image, or neither."""
    if evaluation.window is not None:
        stride = evaluation.stride or tuple((side + 1) // 2 for side in evaluation.window)
        model = Sliding(model, evaluation.window, stride, evaluation.window_batch)
    return Flipped(model) if evaluation.flip else model
