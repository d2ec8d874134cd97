"""Compose a run on clips: only the components that differ from a run on single images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from blda.balance.logit_statistics import LogitStatistics
from blda.build.adaptation_factory import AdaptationFactory, mixer
from blda.build.batch_stream import BatchStream
from blda.build.data_factory import ImageData, joined
from blda.build.evaluation_factory import EvaluationFactory
from blda.build.loss_factory import LossFactory
from blda.build.network_factory import NetworkFactory
from blda.build.reader_factory import READERS as IMAGE_READERS
from blda.build.reader_factory import ReaderFactory, class_names, place
from blda.build.run import Run
from blda.build.statistics_factory import balances, image_statistics, statistics_arguments
from blda.config.components import Constructors, construct
from blda.config.data_root import located
from blda.config.data_schema import Component
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget
from blda.data.class_statistics import ClassCounts
from blda.data.joined_dataset import JoinedDataset
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.engine.metrics import MeanIoU
from blda_video.clips.clip_check import check
from blda_video.clips.clip_crop import Estimator
from blda_video.clips.clip_dataset import ClipDataset, EvaluationClips, StillClips
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
from blda_video.propagation.motion_evidence import MotionEvidence
from blda_video.propagation.motion_network import MotionNetwork
from blda_video.propagation.propagated_labels import PropagatedLabels
from blda_video.propagation.rule import Rule
from blda_video.propagation.warping_rules import ConfidenceThreshold, Fill, MaxConfidence, Warp
from blda_video.smoothed_statistics import SmoothedStatistics
from blda_video.street_world.world_writer import ensure
from blda_video.temporal_metrics import TemporalConsistency

READERS: Constructors = {
    **IMAGE_READERS,
    "bdd100k": BDD100k,
    "bdd_vid": BDDVid,
    "camvid": CamVidSequence,
    "cityscapes_seq": CityscapesSequence,
    "folder": FolderSequence,
    "synthia_seq": SynthiaSequence,
    "videos": VideoFiles,
    "viper": ViperSequence,
}
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


NO_FLOW = "none"
"""Name of the flow of target images without video."""
ONLY_IMAGES = "one data set of a video run's target must be; give one, or train on images (blda train --kind images)"


def estimator_of(where: str, estimator: str | Component | None) -> Estimator:
    """Make a flow estimator from its name, such as dis-medium, or a mapping, such as {name: raft, size: large}.

    Raises ValueError that begins with `where`, the place that asks for it.
    """
    if not estimator:
        raise ValueError(f"{where} is missing; name what computes flow, for example dis-medium or {{name: raft}}")
    return construct(where, component_of(estimator, ESTIMATORS), ESTIMATORS)


class ClipData:
    """Data sets of a video run: single images of the source, clips of the target, whole images with neighbours.

    `ImageData` provides everything that concerns single images.
    """

    config: VideoConfig

    def __init__(self, readers: ReaderFactory) -> None:
        self.readers, self.config, self._images = readers, readers.config, ImageData(readers)

    def make(self) -> None:
        """Make the street worlds that the config names and that are not there yet."""
        for world in self.config.worlds:
            ensure(replace(world, root=located(world.root, self.config.data_root)), workers=os.cpu_count() or 1)

    def source(self, distorted: bool = False) -> SegmentationDataset | JoinedDataset:
        """Labelled training crops; distorted: with colour distortion."""
        return self._images.source(distorted)

    def target(self) -> ClipDataset | JoinedDataset:
        """Unlabelled clips; of several data sets, those without video are clips without neighbours."""
        return joined(self.config, "target", self.target_member)

    def member(self, domain: str, number: int) -> SegmentationDataset:
        """Training crops or clips of one data set of "source" or "target"."""
        return self._images.source_member(number) if domain == "source" else self.target_member(number)

    def target_member(self, number: int) -> ClipDataset | StillClips:
        """Unlabelled clips of one data set."""
        reader, offsets, flow = self.readers.target(number), self.config.offsets, self.target_flow(number)
        cut = (self._images.target_crop(number), self.readers.seed("target"), offsets)
        if flow is None:
            return StillClips(reader, None, *cut, in_bytes=True)
        return ClipDataset(reader, None, *cut, self.flow(flow), True, self.config.chain)

    def source_clips(self, number: int) -> ClipDataset:
        """Labelled clips of one data set of the source, for what learns from its motion."""
        images, config = self._images.source_member(number), self.config
        if not hasattr(images.reader, "neighbour"):
            raise ValueError(f"{place(config, 'source', number)} is not a video; motion is learnt from labelled videos")
        cut = (images.reader, images.lookup, images.transform, images.seed, config.offsets)
        return ClipDataset(*cut, self.source_flow(), True, config.chain)

    def source_flow(self) -> Estimator | StoredFlow:
        """The flow of the source: `motion.flow`, or what the run's flow is estimated with."""
        own, run = self.config.motion and self.config.motion.flow, self.config.flow
        if own or run.get("name") not in STORES:
            return self.flow(own or run)
        return estimator_of("motion.flow", run.get("estimator"))

    def evaluation(self) -> EvaluationClips:
        """Labelled whole images with the neighbours that temporal consistency compares."""
        readers, offsets = self.readers, self.config.consistency
        reader = readers.evaluation()
        around = (offsets, self.flow() if offsets else None, self.config.chain)
        return EvaluationClips(reader, readers.evaluation_lookup(reader), readers.resize("evaluation"), *around)

    def whole_images(self, domain: str) -> EvaluationDataset | JoinedDataset:
        """Whole images of the training data of "source", with labels, or "target", without."""
        return self._images.whole_images(domain)

    def check(self, target: CheckTarget, scope: CheckScope) -> DataReport:
        """Check one data set, with its neighbouring frames and stored flow."""
        return check(target, scope)

    def class_counts(
        self, source: SegmentationDataset | JoinedDataset, skip_unreadable: bool | None = None
    ) -> ClassCounts:
        """Class pixels of every source frame; see `ImageData.class_counts`."""
        return self._images.class_counts(source, skip_unreadable)

    def target_flow(self, number: int) -> Component | None:
        """The flow in the config of one target data set: its own or the run's; None for images without video.

        Of several data sets, those whose readers know no neighbouring frames are images.
        """
        target, own = self.config.target, self.config.target.members[number].flow
        images = (own or {}).get("name") == NO_FLOW
        if images or (target.others and not hasattr(self.readers.target(number), "neighbour")):
            if not any(self._has_video(each) for each in range(len(target.members))):
                raise ValueError(f"{place(self.config, 'target', number)} is not a video; {ONLY_IMAGES}")
            return None
        return own or self.config.flow

    def _has_video(self, number: int) -> bool:
        own = self.config.target.members[number].flow
        return (own or {}).get("name") != NO_FLOW and hasattr(self.readers.target(number), "neighbour")

    def flow(self, component: Component | None = None) -> Estimator | StoredFlow:
        """The flow: estimated on the crop, stored before by blda compute-flow, or published.

        component: None for the run's.
        """
        component = located(component or self.config.flow, self.config.data_root)
        if component.get("name") == "store" and component.get("estimator") is not None:
            component = {**component, "estimator": described(component["estimator"], ESTIMATORS)}
        return construct("flow", component, {**ESTIMATORS, **STORES})

    def needed_flow(self) -> list[NeededFlow]:
        """The flow that a run needs of its target's data sets and its evaluation.

        Raises ValueError when two data sets of the target share a store.
        """
        config, needed, stores = self.config, [], {}
        for number, each in enumerate(config.target.members):
            component = self.target_flow(number)
            if component is None:
                continue
            if (root := component.get("root")) is not None:
                data = {key: value for key, value in each.reader.items() if key != "split"}
                if stores.setdefault(str(root), data) != data:
                    raise ValueError(
                        f"{place(config, 'target', number)}: the flow store {root} is of another data set; give this "
                        "one its own, flow: {name: store, root: DIR, estimator: dis-medium}"
                    )
            needed.append(NeededFlow(self.readers.target(number), config.offsets, component))
        return [*needed, NeededFlow(self.readers.evaluation(), config.consistency, config.flow)]


@dataclass(frozen=True)
class NeededFlow:
    """Flow that a run needs. reader, offsets: between which frames. component: the flow in the config."""

    reader: VideoReader
    offsets: tuple[int, ...]
    component: Component

    def estimator(self) -> Estimator:
        """The estimator that the store is computed with."""
        return estimator_of("flow.estimator", self.component.get("estimator"))


def video_run(
    config: VideoConfig,
    accelerator: Accelerator,
    batches: BatchStream | None = None,
    networks: NetworkFactory | None = None,
) -> Run:
    """Compose a video run: target clips, propagated labels, smoothed statistics, temporal metrics.

    batches, networks: replace those that the config describes.
    """
    data = ClipData(ReaderFactory(config, READERS))
    batches = batches or BatchStream(data, accelerator)
    losses = LossFactory(config, accelerator, clip_statistics, batches.frequency)
    labels = partial(propagated_labels, frequency=batches.frequency, device=accelerator.device)
    return Run(
        config,
        accelerator,
        data,
        batches,
        networks or NetworkFactory(config),
        losses,
        AdaptationFactory(config, accelerator, losses, labels, mixer),
        EvaluationFactory(data, accelerator, [MeanIoU, TemporalConsistency]),
    )


def clip_statistics(config: VideoConfig, domain: str) -> LogitStatistics:
    """Logit statistics of a domain; those of the target are pooled over each clip, unless smoothing is off."""
    if domain == "source" or config.smoothing is None:
        return image_statistics(config, domain)
    return SmoothedStatistics(**statistics_arguments(config, domain), scale=config.smoothing.scale)


def propagated_labels(
    config: VideoConfig, frequency: Callable[[], Tensor], device: torch.device | str = "cpu"
) -> PropagatedLabels:
    """Build the labeller that makes pseudo-labels from all frames of a clip; frequency: see `rule_of`."""
    settings = config.self_training
    trust = (settings.threshold, settings.ignore_top, settings.ignore_bottom)
    observe = config.smoothing is not None and balances(config)
    soft_counting = config.blda.by_belief and balances(config)
    how = (*trust, observe, soft_counting, motion_evidence(config, device))
    return PropagatedLabels(rule_of(config, frequency), *how)


def motion_evidence(config: VideoConfig, device: torch.device | str) -> MotionEvidence | None:
    """Read the network that tells classes by flow, None for a config without `motion`."""
    if config.motion is None:
        return None
    network = MotionNetwork.load(Path(config.motion.weights), class_names(config))
    return MotionEvidence(network.to(device), config.motion.power, config.offsets)


def rule_of(config: VideoConfig, frequency: Callable[[], Tensor]) -> Rule:
    """Build the config's propagation rule; frequency: counts the source's pixels of each class, for `rare_class`."""
    component = config.rule if isinstance(config.rule, dict) else {"name": config.rule}
    name = component.get("name")
    if name == "oracle":
        raise ValueError("rule: oracle reads the target's labels; only benchmarks/rule_quality.py may do that")
    fixed = {"frequency": frequency()} if name == "rare_class" else {}
    return construct("rule", component, RULES, **fixed)
