"""Calibration of a checkpoint on its run's data, or of any network on its saved logits."""

from argparse import Namespace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset, Subset

from blda import text
from blda.balance.logit_statistics import LogitStatistics
from blda.build.checkpoint_search import checkpoint_of
from blda.build.image_run import image_run
from blda.build.run import Run
from blda.calibration.posthoc import Calibrated, Subject, calibrate
from blda.calibration.saved_logits import SavedLogits
from blda.config.classification import ClassifyConfig
from blda.data.protocols import protocol_of
from blda.data.sample import Sample
from blda.engine import checkpoint, runtime
from blda.engine.inference import Predictor
from blda.engine.metrics import MeanIoU
from blda.selftraining.pseudo_labels import TeacherLabels
from blda_video.build import READERS
from blda_video.config import VideoConfig
from blda_video.jobs.restored_run import restored


def calibration_of(given: Namespace) -> tuple[Calibrated, Accelerator]:
    """Calibrate what the arguments of `blda calibrate` name."""
    _check(given)
    subject, statistics = of_run(given) if given.run else of_files(given)
    network = given.run[0] if given.run else f"saved logits {given.source}, {given.target}"
    origin = {"network": network, "statistics": given.statistics}
    return calibrate(subject, given.tau, given.choose, origin, given.passes, statistics), subject.accelerator


def of_run(given: Namespace) -> tuple[Subject, tuple[LogitStatistics, LogitStatistics] | None]:
    """Load a checkpoint's network with whole images of its run, and the statistics it saved if they are asked for."""
    path, overrides = checkpoint_of(Path(given.run[0])), given.run[1:]
    run, student = restored(path, overrides)
    config = run.config
    # A video run is calibrated as one of images: clips would read neighbours and flow too.
    images = image_run(config, run.accelerator, READERS) if isinstance(config, VideoConfig) else run
    fits = given.statistics == "fit"
    subject = Subject(
        predict=run.evaluation.predictor(student),
        source=_spread(run.data.whole_images("source"), given.images) if fits else None,
        target=_spread(run.data.whole_images("target"), given.images) if fits else None,
        validation=None if given.fit_only else images.data.evaluation(),
        pseudo_labeler=images.adaptation.pseudo_labeler(config),
        classes=run.class_names,
        protocol=run.protocols[0],
        metric=lambda: images.evaluation.metrics()[0],
        accelerator=run.accelerator,
        components=config.blda.components,
        min_pixels=config.blda.min_pixels if given.min_pixels is None else given.min_pixels,
        workers=config.training.workers,
        batch=config.training.batch if isinstance(config, ClassifyConfig) and config.classification.centre else 1,
        bar=config.log.bar,
    )
    return subject, None if fits else _stored(run, path)


def of_files(given: Namespace) -> tuple[Subject, None]:
    """Load the saved logits of any network; the network that runs on them is the identity."""
    source, target = SavedLogits(given.source, labelled=True), SavedLogits(given.target, labelled=False)
    validation = SavedLogits(given.validation, labelled=True) if given.validation else None
    for path, saved in ((given.target, target), (given.validation, validation)):
        if saved and saved.classes != source.classes:
            raise ValueError(f"{path} holds {saved.classes} classes, {given.source} {source.classes}; use one network")
    classes = _names(given.classes, source.classes)
    protocol = protocol_of(classes)
    subject = Subject(
        predict=Predictor(nn.Identity()),
        source=source,
        target=target,
        validation=validation,
        pseudo_labeler=TeacherLabels(given.threshold),
        classes=classes,
        protocol=protocol,
        metric=lambda: MeanIoU(classes, [protocol]),
        accelerator=runtime.start("no"),
        min_pixels=100 if given.min_pixels is None else given.min_pixels,
    )
    return subject, None


def _check(given: Namespace) -> None:
    """Raise ValueError if the arguments do not fit together."""
    saved = given.source or given.target or given.validation
    if given.run and (saved or given.classes):
        raise ValueError(f"{given.run[0]} and saved logits (--source, --classes, ...) exclude each other; give one")
    if not given.run and not (given.source and given.target):
        raise ValueError("give a checkpoint, or saved logits by --source and --target; see --help")
    if given.choose is None and (given.fit_only if given.run else not given.validation):
        raise ValueError("--choose best-miou needs labels to choose on; give --validation, or a number")
    if given.statistics == "checkpoint" and not given.run:
        raise ValueError("--statistics checkpoint needs a checkpoint; give one, or remove the option for saved logits")
    if given.images < 1 or given.passes < 1:
        raise ValueError(f"--images is {given.images} and --passes {given.passes}; both must be at least 1")


def _spread(dataset: Dataset[Sample], images: int) -> Dataset[Sample]:
    """Return at most `images` samples, at even distances in the data set."""
    chosen = torch.linspace(0, len(dataset) - 1, min(images, len(dataset)), dtype=torch.float64).round().long()
    return Subset(dataset, chosen.tolist())


def _stored(run: Run, path: Path) -> tuple[LogitStatistics, LogitStatistics]:
    """Load the statistics of both domains that a run of `blda` saved in its checkpoint."""
    source, target = run.losses.statistics("blda")
    checkpoint.restore(path, checkpoint.read(path), {"source_statistics": source, "target_statistics": target})
    return source, target


def _names(given: list[str] | None, classes: int) -> tuple[str, ...]:
    """Return the class names of saved logits."""
    if given is None:
        return tuple(f"class_{index}" for index in range(classes))
    if len(given) == 1 and Path(given[0]).is_file():
        given = [line.strip() for line in text.read_lines(Path(given[0])) if line.strip()]
    if len(given) != classes or len(set(given)) != classes:
        raise ValueError(f"--classes gives {len(set(given))} different names for {classes} classes; name each once")
    return tuple(given)
