"""Stream of training batches of a run; every process draws its own share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from blda.build.data_examination import examine_counts
from blda.build.data_factory import DataFactory, published_draws
from blda.data.checks.data_report import require
from blda.data.loader import endless_loader
from blda.data.sample import Sample
from blda.data.sampler import DrawSampler, RareClassSampler, ReplacingSampler
from blda.data.shares import SharedRareClassSampler, SharedSampler
from blda.data.skip_unreadable import SkipUnreadable
from blda.engine.trainer import Batches

_LOG = logging.getLogger(__name__)


class BatchStream:
    """Stream of frames drawn from both domains, in batches. data: builds the data sets."""

    def __init__(self, data: DataFactory, accelerator: Accelerator) -> None:
        self.data, self.config, self.accelerator = data, data.config, accelerator
        self._skipping: list[SkipUnreadable] = []

    def batches(self, adapts: bool) -> Batches:
        """Build the stream of (source, target) batches, given the number of finished passes.

        The target is None unless the method adapts.
        """
        source = self.data.source(distorted=self.config.source.photometric and not adapts)
        pixels = self._rare_pixels(source)
        target = self.data.target() if adapts else None
        device = self.accelerator.device

        def stream(start: int) -> Iterator[tuple[Sample, Sample | None]]:
            sources = self._draws(source, "source", start, pixels)
            if target is None:
                for batch in sources:
                    yield batch.to(device), None
            else:
                for batch, unlabelled in zip(sources, self._draws(target, "target", start), strict=True):
                    yield batch.to(device), unlabelled.to(device)

        return stream

    def frequency(self) -> torch.Tensor:
        """Count the labelled pixels of each class in the source, once in one process: (C,) int64 on the device."""
        with self.accelerator.main_process_first():
            pixels = self.data.class_counts(self.data.source()).pixels
        return torch.from_numpy(pixels.sum(0)).to(self.accelerator.device)

    def skipped(self) -> dict[str, int]:
        """Return the number of unusable frames that this process replaced; empty unless the config allows it."""
        if self.config.data.on_error == "stop":
            return {}
        return {"data/skipped": sum(dataset.replaced() for dataset in self._skipping)}

    def _rare_pixels(self, source: Dataset[Sample]) -> Any:
        """Count the class pixels of every source frame, once in one process.

        Returns None unless rare-class sampling is on.
        """
        if self.config.source.rare is None:
            return None
        with self.accelerator.main_process_first():
            counts = self.data.class_counts(source)
        if counts.unusable and self.accelerator.is_main_process:
            first = next(iter(counts.unusable.values()))
            _LOG.warning("rare-class sampling leaves out %d frames, the first: %s", len(counts.unusable), first)
        report = examine_counts(self.data, source, counts)
        require(report)
        for problem in report.problems:
            if problem.kind == "rare classes" and self.accelerator.is_main_process:  # others were told at the start
                _LOG.warning("source: %s", problem.text)
        return counts.pixels

    def _draws(self, dataset: Dataset[Sample], domain: str, start: int, pixels: Any = None) -> Iterator[Sample]:
        """Yield batches of one domain, from pass `start` on; pixels: see `_rare_pixels`."""
        training, accelerator, seed = self.config.training, self.accelerator, self.data.readers.seed(domain)
        position = (training.batch, accelerator.process_index, accelerator.num_processes, seed, start)
        sampler = self._sampler(dataset, domain, position, pixels)
        if self.config.data.on_error == "skip":
            dataset = SkipUnreadable(dataset, sampler)
            self._skipping.append(dataset)
        return iter(endless_loader(dataset, sampler, training.workers, accelerator.device.type == "cuda"))

    def _sampler(self, dataset: Dataset[Sample], domain: str, position: tuple[int, ...], pixels: Any) -> DrawSampler:
        """Build the sampler of a domain; position: batch, rank, world, seed and first step. pixels: see above."""
        published, shares = published_draws(self.config), getattr(self.config, domain).shares
        members = () if shares is None else (dataset.lengths, shares)
        if pixels is not None:
            rare = self.config.source.rare
            union = RareClassSampler(pixels, *position, rare.temperature, rare.min_pixels, published)
            return SharedRareClassSampler(union, *members) if members else union
        if members:
            return SharedSampler(*members, *position, published)
        return (ReplacingSampler if published else DrawSampler)(len(dataset), *position)
