"""From a config to a trainer with time: what differs from the image run, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from blda.build.image_run import Build
from blda.config.components import Constructors, construct
from blda.config.schema import Component
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget
from blda.engine.metrics import Metric
from blda_video.clips.clip_check import check
from blda_video.clips.clip_crop import Estimator
from blda_video.clips.clip_dataset import ClipDataset, EvaluationClips
from blda_video.clips.readers.bdd100k import BDD100k
from blda_video.clips.readers.bdd_vid import BDDVid
from blda_video.clips.readers.camvid_sequence import CamVidSequence
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.clips.readers.synthia_sequence import SynthiaSequence
from blda_video.clips.readers.unlabelled_videos import VideoFiles
from blda_video.clips.readers.viper_sequence import ViperSequence
from blda_video.clips.route import VideoReader
from blda_video.config import VideoConfig
from blda_video.flow.dis import DIS
from blda_video.flow.estimator_names import component_of, described
from blda_video.flow.flow_store import FlowStore, StoredFlow
from blda_video.flow.mmflow import MMFlow
from blda_video.flow.published_flow import PublishedFlow
from blda_video.flow.raft import RAFT
from blda_video.propagation.agreement_rules import Consistency, ConsistentConfidence, RareClass
from blda_video.propagation.averaging_rules import KeyAlone, Trajectory
from blda_video.propagation.propagated_labels import PropagatedLabels
from blda_video.propagation.rule import Rule
from blda_video.propagation.warping_rules import ConfidenceThreshold, Fill, MaxConfidence, Warp
from blda_video.smoothed_statistics import SmoothedStatistics
from blda_video.street_world.world_writer import ensure
from blda_video.temporal_metrics import TemporalConsistency

ESTIMATORS: Constructors = {"dis": DIS, "mmflow": MMFlow, "raft": RAFT}
STORES: Constructors = {"published": PublishedFlow, "store": FlowStore}
RULES: Constructors = {
    "none": KeyAlone,
    "trajectory": Trajectory,
    "warp": Warp,
    "fill": Fill,
    "max_confidence": MaxConfidence,
    "confidence_threshold": ConfidenceThreshold,
    "consistency": Consistency,
    "consistent_confidence": ConsistentConfidence,
    "rare_class": RareClass,
}


def estimator_of(where: str, estimator: str | Component | None) -> Estimator:
    """An estimator by its name, such as dis-medium, or as a part, such as {name: raft, size: large}.

    Raises ValueError naming `where` it is asked for.
    """
    if not estimator:
        raise ValueError(f"{where} is missing; name what computes flow, for example dis-medium or {{name: raft}}")
    return construct(where, component_of(estimator, ESTIMATORS), ESTIMATORS)


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

    def flow(self) -> Estimator | StoredFlow:
        """Where flow comes from: estimated on the crop, stored before by tools/compute_flow.py, or published."""
        part = self.config.flow
        if part.get("name") == "store" and part.get("estimator") is not None:
            part = {**part, "estimator": described(part["estimator"], ESTIMATORS)}
        return construct("flow", part, {**ESTIMATORS, **STORES})

    def estimator(self) -> Estimator:
        """What the run's flow store is computed with."""
        return estimator_of("flow.estimator", self.config.flow.get("estimator"))

    def flow_pairs(self) -> list[tuple[VideoReader, tuple[int, ...]]]:
        """The readers and offsets that a run needs flow for."""
        config = self.config
        target = self.reader("target.reader", config.target.reader, labelled=False)
        evaluated = self.reader("evaluation.reader", config.evaluation.reader, labelled=True)
        return [(target, config.offsets), (evaluated, config.consistency)]

    def check(self, role: CheckTarget, scope: CheckScope) -> DataReport:
        """A check of one data set, with neighbours and stored flow."""
        return check(role, scope)

    def target_data(self) -> ClipDataset:
        """Unlabelled clips."""
        data = self.config.target
        reader = self.reader("target.reader", data.reader, labelled=False)
        crop = self.target_crop()
        around = (self.config.offsets, self.flow(), True, self.config.chain)
        return ClipDataset(reader, None, crop, self.seed("target"), *around)

    def pseudo_labeler(self) -> PropagatedLabels:
        """Pseudo-labels from all frames of a clip."""
        config, settings = self.config, self.config.self_training
        trust = (settings.threshold, settings.ignore_top, settings.ignore_bottom)
        observe = config.smoothing is not None and self.balances
        return PropagatedLabels(self.rule(), *trust, observe, config.blda.by_belief and self.balances)

    def rule(self) -> Rule:
        """How beliefs of frames combine."""
        part = self.config.rule if isinstance(self.config.rule, dict) else {"name": self.config.rule}
        name = part.get("name")
        if name == "oracle":
            raise ValueError("rule: oracle reads the target's labels; only benchmarks/rule_quality.py may do that")
        fixed = {"frequency": self.frequency()} if name == "rare_class" else {}
        return construct("rule", part, RULES, **fixed)

    def target_statistics(self) -> SmoothedStatistics:
        """Statistics pooled over each clip, unless smoothing is off."""
        if self.config.smoothing is None:
            return super().target_statistics()
        return SmoothedStatistics(**self.statistics_settings("target"), scale=self.config.smoothing.scale)

    def evaluation_data(self) -> EvaluationClips:
        """Labelled whole images with the neighbours that temporal consistency compares."""
        data = self.config.evaluation
        reader = self.reader("evaluation.reader", data.reader, labelled=True)
        lookup, offsets = self.evaluation_lookup(reader), self.config.consistency
        around = (offsets, self.flow() if offsets else None, self.config.chain)
        return EvaluationClips(reader, lookup, self.resize("evaluation"), *around)

    def metrics(self) -> Sequence[Metric]:
        """Accuracy, and how the prediction behaves along the flow."""
        return [*super().metrics(), TemporalConsistency(self.classes, self.protocols)]
