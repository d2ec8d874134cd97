"""Composition of a run on single images."""

from __future__ import annotations

from accelerate import Accelerator

from blda.build.adaptation_factory import AdaptationFactory, mixer, teacher_labels
from blda.build.batch_stream import BatchStream
from blda.build.data_factory import ImageData
from blda.build.evaluation_factory import EvaluationFactory
from blda.build.loss_factory import LossFactory
from blda.build.network_factory import NetworkFactory
from blda.build.reader_factory import READERS, ReaderFactory
from blda.build.run import Run
from blda.build.statistics_factory import image_statistics
from blda.config.components import Constructors
from blda.config.schema import Config
from blda.engine.metrics import MeanIoU


def image_run(
    config: Config,
    accelerator: Accelerator,
    readers: Constructors = READERS,
    batches: BatchStream | None = None,
    networks: NetworkFactory | None = None,
) -> Run:
    """Compose the segmentation of single images.

    readers: constructors by their `reader.name`. batches, networks: replace those built from the config.
    """
    data = ImageData(ReaderFactory(config, readers))
    batches = batches or BatchStream(data, accelerator)
    losses = LossFactory(config, accelerator, image_statistics, batches.frequency)
    return Run(
        config,
        accelerator,
        data,
        batches,
        networks or NetworkFactory(config),
        losses,
        AdaptationFactory(config, accelerator, losses, teacher_labels, mixer),
        EvaluationFactory(data, accelerator, [MeanIoU]),
    )
