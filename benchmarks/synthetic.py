"""Runs on random batches: everything as the config builds it, but data sets and pretrained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from blda.build.image_run import Build
from blda.config.schema import Target
from blda.data import seeding
from blda.data.sample import IGNORE, Sample
from blda.engine.trainer import Batches
from blda_video.build import VideoBuild
from blda_video.clips.clip import Clip

BLOCK = 32
"""Side of the pieces that random label maps consist of, in pixels."""


class Synthetic(Build):
    """Random images and labels of the config's crops, made once and moved to the device for every pass."""

    def prepare(self, methods: Sequence[str]) -> None:
        """There is nothing to look up."""

    def student(self, pretrained: bool = False) -> nn.Module:
        """The network at random, whatever its weights are read from."""
        return super().student(pretrained=False)

    def start(self, student: nn.Module) -> None:
        """Weights to start from are left out."""

    def frequency(self) -> Tensor:
        """Every class as often as any other."""
        return torch.ones(len(self.classes), dtype=torch.int64, device=self.accelerator.device)

    def evaluator(self) -> None:
        """Nothing is evaluated."""

    def batches(self, adapts: bool) -> Batches:
        """The same batch without end, in page-locked memory for a GPU."""
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
        """Labelled crops in bytes, a tenth of the blocks without label."""
        image, draws = self.images("source", self.config.source), tuple(range(self.config.training.batch))
        rows, columns = (-(-side // BLOCK) for side in image.shape[-2:])
        g = seeding.generator(self.config.seed, "synthetic labels")
        label = torch.randint(len(self.classes), (len(image), rows, columns), generator=g)
        label[torch.rand(label.shape, generator=g) < 0.1] = IGNORE
        label = label.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
        label = label[:, : image.shape[2], : image.shape[3]].to(torch.uint8).contiguous()
        return Sample(image, label, ("synthetic",) * len(image), draws)

    def target_batch(self) -> Sample:
        """Unlabelled crops in bytes."""
        image = self.images("target", self.config.target)
        return Sample(image, None, ("synthetic",) * len(image), tuple(range(len(image))))

    def images(self, domain: str, data: Target, *more: int) -> Tensor:
        """(B, *more, 3, H, W) uint8. ValueError when the config has no size."""
        size = data.crop or data.resize
        if size is None:
            raise ValueError(f"{domain}.crop is null, so random images have no size; set {domain}.crop=[512,512]")
        shape = (self.config.training.batch, *more, 3, *size)
        generator = seeding.generator(self.config.seed, "synthetic", domain)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


class SyntheticVideo(Synthetic, VideoBuild):
    """The same with context frames and flow of a few pixels, four fifths of it valid."""

    def target_batch(self) -> Clip:
        """Unlabelled clips in bytes."""
        key, offset = super().target_batch(), self.config.offsets
        context = self.images("context", self.config.target, len(offset))
        g = seeding.generator(self.config.seed, "synthetic flow")
        shape = (*context.shape[:2], *context.shape[-2:])
        flow = 3 * torch.randn(*shape[:2], 2, *shape[2:], generator=g)
        valid = torch.rand(shape, generator=g) < 0.8
        return Clip(key.image, None, key.name, key.draw, context, flow, valid, offset)


def synthetic(build: type[Build]) -> type[Synthetic]:
    """The kind of synthetic run that stands for one of images or of video. ValueError for another kind."""
    kinds = {Build: Synthetic, VideoBuild: SyntheticVideo}
    if build not in kinds:
        raise ValueError(f"no random batches for a {build.__name__}; give a config of images or video to be segmented")
    return kinds[build]
