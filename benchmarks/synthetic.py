"""Runs on random batches: built by the config, except for data sets and pretrained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from blda.build.image_run import image_run
from blda.build.network_factory import NetworkFactory
from blda.build.reader_factory import class_names
from blda.build.run import Run
from blda.config.data_schema import Target
from blda.config.schema import Config
from blda.data import seeding
from blda.data.sample import IGNORE, Sample
from blda.engine.trainer import Batches
from blda_video.build import video_run
from blda_video.clips.clip import Clip
from blda_video.config import VideoConfig

BLOCK = 32
"""Side of the pieces that random label maps consist of, in pixels."""


class RandomBatches:
    """Random images and labels of the config's crops, made once and moved to the device for every pass.

    Those of a video run have context frames and flow of a few pixels, four fifths of it valid.
    """

    def __init__(self, config: Config, accelerator: Accelerator, num_classes: int) -> None:
        self.config, self.accelerator, self.num_classes = config, accelerator, num_classes

    def frequency(self) -> Tensor:
        """Class frequency: all classes are equally frequent."""
        return torch.ones(self.num_classes, dtype=torch.int64, device=self.accelerator.device)

    def skipped(self) -> dict[str, int]:
        """Skipped frames: none."""
        return {}

    def batches(self, adapts: bool) -> Batches:
        """Yield one batch endlessly, in page-locked memory for a GPU."""
        device = self.accelerator.device
        pair = self.source_batch(), self.target_batch() if adapts else None
        if device.type == "cuda":
            pair = tuple(each and each.pin_memory() for each in pair)

        def stream(start: int) -> Iterator[tuple[Sample, Sample | None]]:
            while True:
                source, target = pair
                yield source.to(device), target and target.to(device)

        return stream

    def source_batch(self) -> Sample:
        """Labelled crops, uint8; a tenth of the blocks has no label."""
        image, draws = self.images("source", self.config.source), tuple(range(self.config.training.batch))
        rows, columns = (-(-side // BLOCK) for side in image.shape[-2:])
        g = seeding.generator(self.config.seed, "synthetic labels")
        label = torch.randint(self.num_classes, (len(image), rows, columns), generator=g)
        label[torch.rand(label.shape, generator=g) < 0.1] = IGNORE
        label = label.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
        label = label[:, : image.shape[2], : image.shape[3]].to(torch.uint8).contiguous()
        return Sample(image, label, ("synthetic",) * len(image), draws)

    def target_batch(self) -> Sample | Clip:
        """Unlabelled crops, uint8; clips for a video run."""
        image = self.images("target", self.config.target)
        key = Sample(image, None, ("synthetic",) * len(image), tuple(range(len(image))))
        return self._with_context(key) if isinstance(self.config, VideoConfig) else key

    def images(self, domain: str, data: Target, *more: int) -> Tensor:
        """Random images (B, *more, 3, H, W) uint8. Raises ValueError when the config has no size."""
        size = data.crop or data.resize
        if size is None:
            raise ValueError(f"{domain}.crop is null, so random images have no size; set {domain}.crop=[512,512]")
        shape = (self.config.training.batch, *more, 3, *size)
        generator = seeding.generator(self.config.seed, "synthetic", domain)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)

    def _with_context(self, key: Sample) -> Clip:
        offset = self.config.offsets
        context = self.images("context", self.config.target, len(offset))
        g = seeding.generator(self.config.seed, "synthetic flow")
        shape = (*context.shape[:2], *context.shape[-2:])
        flow = 3 * torch.randn(*shape[:2], 2, *shape[2:], generator=g)
        valid = torch.rand(shape, generator=g) < 0.8
        return Clip(key.image, None, key.name, key.draw, context, flow, valid, offset)


class RandomNetworks(NetworkFactory):
    """Networks with random weights, wherever the config reads its weights from."""

    pretrained = False

    def start(self, student: nn.Module) -> None:
        """Ignore the weights to start from."""


class NoEvaluation:
    """Placeholder of the evaluation: evaluates nothing, predicts as the run does."""

    def __init__(self, run: Run) -> None:
        self.predictor = run.evaluation.predictor

    def evaluator(self) -> None:
        """No evaluator."""


def synthetic(compose: Callable[[Config, Accelerator], Run]) -> Callable[[Config, Accelerator], Run]:
    """Compose the run on random batches of images or of clips. ValueError for another kind."""
    if compose not in (image_run, video_run):
        raise ValueError(f"no random batches for a {compose.__name__}; give a config that segments images or video")

    def composed(config: Config, accelerator: Accelerator) -> Run:
        batches = RandomBatches(config, accelerator, len(class_names(config)))
        run = compose(config, accelerator, batches=batches, networks=RandomNetworks(config))
        run.evaluation = NoEvaluation(run)
        return run

    return composed
