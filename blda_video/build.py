"""From a config to a trainer with time: what differs from the image run, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from blda.build import Build
from blda.data.check import Extent, Role
from blda.data.report import DataReport
from blda.data.transforms import RandomCrop
from blda.engine.metrics import Metric
from blda.parts import Constructors, construct
from blda.spelling import nearest
from blda_video import rules
from blda_video.config import VideoConfig
from blda_video.data.bdd import BDDVid
from blda_video.data.bdd100k import BDD100k
from blda_video.data.camvid import CamVidSequence
from blda_video.data.check import check
from blda_video.data.cityscapes_seq import CityscapesSequence
from blda_video.data.clip import ClipDataset, Estimator, EvaluationClips, VideoReader
from blda_video.data.folder import FolderSequence
from blda_video.data.synthia_seq import SynthiaSequence
from blda_video.data.videos import VideoFiles
from blda_video.data.viper import ViperSequence
from blda_video.data.world.writer import ensure
from blda_video.flow.estimate import DIS
from blda_video.flow.store import FlowStore
from blda_video.metrics import TemporalConsistency
from blda_video.propagate import PropagatedLabels
from blda_video.smoothing import SmoothedStatistics

ESTIMATORS: Constructors = {"dis": DIS}
RULES = {"none": rules.none, "trajectory": rules.trajectory}


class VideoBuild(Build):
    """The parts of a video run: target clips, propagated labels, smoothed statistics, temporal metrics."""

    readers: ClassVar[Constructors] = {
        **Build.readers,
        "bdd100k": BDD100k,
        "bdd_vid": BDDVid,
        "camvid": CamVidSequence,
        "cityscapes_seq": CityscapesSequence,
        "folder": FolderSequence,
        "synthia_seq": SynthiaSequence,
        "videos": VideoFiles,
        "viper": ViperSequence,
    }
    config: VideoConfig

    def prepare(self, methods: Sequence[str]) -> None:
        """Make the street worlds that the config names, by one process, then as for images."""
        self.make_worlds()
        super().prepare(methods)

    def make_worlds(self) -> None:
        """Make the street worlds that the config names and that are not there yet."""
        with self.accelerator.main_process_first():
            for world in self.config.worlds:
                ensure(world, workers=os.cpu_count() or 1)

    def flow(self) -> Estimator | FlowStore:
        """Where flow comes from: estimated on the crop, or stored before by tools/compute_flow.py."""
        part = self.config.flow
        if part.get("name") == "store":
            return construct("flow", part, {"store": FlowStore})
        return construct("flow", part, ESTIMATORS)

    def estimator(self) -> Estimator:
        """What a flow store is computed with, by the name in its manifest, for example dis-medium."""
        name, _, preset = str(self.config.flow.get("estimator")).partition("-")
        part = {"name": name, "preset": preset} if preset else {"name": name}
        return construct("flow.estimator", part, ESTIMATORS)

    def flow_pairs(self) -> list[tuple[VideoReader, tuple[int, ...]]]:
        """The readers and offsets that a run needs flow for."""
        config = self.config
        target = self.reader("target.reader", config.target.reader, labelled=False)
        evaluated = self.reader("evaluation.reader", config.evaluation.reader, labelled=True)
        return [(target, config.offsets), (evaluated, config.consistency)]

    def check(self, role: Role, extent: Extent) -> DataReport:
        """A check of one data set, with neighbours and stored flow."""
        return check(role, extent)

    def target_data(self) -> ClipDataset:
        """Unlabelled clips."""
        data = self.config.target
        reader = self.reader("target.reader", data.reader, labelled=False)
        crop = RandomCrop(data.resize, data.crop, data.flip)
        return ClipDataset(reader, None, crop, self.seed("target"), self.config.offsets, self.flow())

    def labeller(self) -> PropagatedLabels:
        """Pseudo-labels from all frames of a clip."""
        rule, settings = self.config.rule, self.config.self_training
        if rule not in RULES:
            raise ValueError(f"rule: unknown '{rule}'; {nearest(rule, list(RULES))}")
        return PropagatedLabels(RULES[rule], settings.threshold, settings.ignore_top, settings.ignore_bottom)

    def target_statistics(self) -> SmoothedStatistics:
        """Statistics pooled over each clip, unless smoothing is off."""
        if self.config.smoothing is None:
            return super().target_statistics()
        return SmoothedStatistics(**self.statistics_settings("target"), scale=self.config.smoothing.scale)

    def evaluation_data(self) -> EvaluationClips:
        """Labelled whole images with the neighbours that temporal consistency compares."""
        data = self.config.evaluation
        reader = self.reader("evaluation.reader", data.reader, labelled=True)
        table, offsets = self.evaluation_table(reader), self.config.consistency
        return EvaluationClips(reader, table, data.size, offsets, self.flow() if offsets else None)

    def metrics(self) -> Sequence[Metric]:
        """Accuracy, and consistency along the flow."""
        return [*super().metrics(), TemporalConsistency(self.classes)]
