"""Build the evaluation of a run: how whole images are predicted, and what is measured of the predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelerate import Accelerator
from torch import Tensor, nn

from blda.build.data_factory import DataFactory
from blda.engine.evaluator import Evaluator
from blda.engine.inference import Predictor
from blda.engine.metrics import Metric
from blda.models.test_time_augmentation import Flipped, Sliding

MetricFactory = Callable[[tuple[str, ...], Sequence], Metric]
"""From class names and protocols to a fresh metric."""


class EvaluationFactory:
    """Build predictors and evaluators.

    data: builds the data set. metrics: what is measured, the first of which scores. batch: images at a time, more than
    one only where all have one size.
    """

    def __init__(
        self, data: DataFactory, accelerator: Accelerator, metrics: Sequence[MetricFactory], batch: int = 1
    ) -> None:
        self.data, self.config, self.accelerator = data, data.config, accelerator
        self._metrics, self.batch = metrics, batch

    def predictor(self, model: nn.Module, calibration: Callable[[Tensor], Tensor] | None = None) -> Predictor:
        """How this run predicts whole images with a network: at once, or in windows, mirrored too, calibrated."""
        data = self.config.evaluation
        if data.window is not None:
            stride = data.stride or tuple((side + 1) // 2 for side in data.window)
            model = Sliding(model, data.window, stride, data.window_batch)
        return Predictor(Flipped(model) if data.flip else model, self.accelerator.autocast, calibration)

    def metrics(self) -> Sequence[Metric]:
        """Fresh metrics of the run's classes by its protocols."""
        return [metric(self.data.readers.class_names, self.data.readers.protocols) for metric in self._metrics]

    def evaluator(self) -> Evaluator:
        """Evaluation of this process's share."""
        settings, bar = self.config.training, self.config.log.bar
        return Evaluator(self.data.evaluation(), self.metrics, self.accelerator, settings.workers, bar, self.batch)
