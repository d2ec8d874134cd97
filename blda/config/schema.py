"""A run, described by frozen dataclasses; nothing below `build` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from blda.config import data_root
from blda.config.data_schema import Component, Data, Evaluation, Source, Target
from blda.config.method_schema import Adjustment, Blda, FeatureDistance, FoundationDistance, Reweighting, SelfTraining
from blda.config.ranges import Count, Natural, NotNegative, Positive, PositiveShare, Share, Size
from blda.config.resolution import at_resolution

C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Hrda:
    """Network of two resolutions, see blda/models/hrda.py.

    attention: head that predicts the attention. detail: (height, width) of the window at full resolution, null for half
        of the source's crop. scale: scale of the context.
    stride: image pixels per pixel of the map on which both are fused; published 4, for DeepLab-v2 8.
    strength: weight of the detail's own loss. windows: most windows encoded at once in evaluation.
    """

    attention: Component = field(default_factory=lambda: {"name": "segformer", "embed": 256})
    detail: Size | None = None
    scale: PositiveShare = 0.5
    stride: Count = 4
    strength: Share = 0.1
    windows: Count = 32


@dataclass(frozen=True)
class Model:
    """Network, see blda/models.

    encoder, head: {name, ...}. hrda: {} for two resolutions, null for one.
    weights: checkpoint (step_*.pt, also of blda import-weights) whose network training starts from, null for none.
    """

    encoder: Component
    head: Component
    hrda: Hrda | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Optimizer:
    """AdamW with a linear warm-up, then linear decay to zero.

    head_factor: learning rate of heads as a multiple of lr. layer_decay: learning rate of an encoder's layer as a
    multiple of the next layer's, 1 for one rate (blda/models/layer_decay.py). no_decay: weights that do not decay,
    `norms` or, as published, only `encoder_layer_norms`. clip: largest gradient norm, null for none.
    """

    lr: Positive = 6e-5
    head_factor: Positive = 10.0
    layer_decay: PositiveShare = 1.0
    weight_decay: NotNegative = 0.01
    no_decay: str = "norms"
    warmup: Natural = 1500
    clip: Positive | None = None

    def __post_init__(self) -> None:
        if self.no_decay not in ("norms", "encoder_layer_norms"):
            raise ValueError(f"optimizer.no_decay is '{self.no_decay}'; use norms or encoder_layer_norms")


@dataclass(frozen=True)
class Training:
    """Training loop.

    batch: images of each domain per process and pass. accumulate: passes per step.
    precision: no (float32), bf16 or fp16; null leaves it to `accelerate launch --mixed_precision`, else float32.
    workers: loader processes per domain. checkpoint_every: steps between checkpoints. keep: checkpoints that are kept.
    channels_last: keep the network's convolutions in that layout. compile: compile the student by torch.compile.
    checkpointing: compute the network's blocks again in the backward pass instead of storing their activations.
    cuda_graphs: capture the network's passes once and replay them, where the host is slower than the GPU; for one
        process, without hrda, compile and checkpointing (blda/models/cuda_graphs.py).
    deterministic: sum on a GPU in a fixed order, which is slower.
    """

    steps: Count = 40000
    batch: Count = 2
    accumulate: Count = 1
    precision: str | None = None
    workers: Natural = 4
    checkpoint_every: Count = 2000
    keep: Count = 2
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    cuda_graphs: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.precision not in (None, "no", "bf16", "fp16"):
            raise ValueError(f"training.precision is '{self.precision}'; use \"no\" (float32), bf16 or fp16")


@dataclass(frozen=True)
class Log:
    """Log of a run.

    every: steps between lines of numbers. pictures: steps between pictures. bar: show the progress bar.
    trackers: what shows numbers and pictures, beside metrics.jsonl: names, or {name, keyword: value} with keywords of
        the tracker's own; tensorboard, wandb, mlflow, aim, trackio, or another that Accelerate knows.
    """

    every: Count = 50
    pictures: Count = 1000
    bar: bool = True
    trackers: tuple[Any, ...] = ("tensorboard",)


@dataclass(frozen=True)
class Config:
    """Config of one run of image adaptation.

    run: folder of the run. classes: name of a class list, or the class names.
    method: source_only, self_training, reweighted, adjusted or blda. compare: methods to train first, for the closing
        table.
    resolution: factor of every length in pixels, see blda/config/resolution.py.
    data_root: folder that stands for `data` in all paths of data, labels and flow that begin with data/.
    """

    run: str
    model: Model
    source: Source
    target: Target
    evaluation: Evaluation
    classes: Any = "cityscapes19"
    method: str = "blda"
    compare: tuple[str, ...] = ()
    seed: Natural = 0
    resolution: Positive = 1.0
    data_root: str = data_root.DEFAULT
    data: Data = field(default_factory=Data)
    self_training: SelfTraining = field(default_factory=SelfTraining)
    feature_distance: FeatureDistance | None = None
    foundation_distance: FoundationDistance | None = None
    blda: Blda = field(default_factory=Blda)
    reweighting: Reweighting = field(default_factory=Reweighting)
    adjustment: Adjustment = field(default_factory=Adjustment)
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    log: Log = Log()

    def __post_init__(self) -> None:
        if not self.run.strip():
            raise ValueError("run is empty; give the folder of the run, such as run=runs/first")

    def resolved(self: C) -> C:
        """Return the same run at resolution 1, its lengths multiplied.

        Raises ValueError for keys that contradict each other.
        """
        config = at_resolution(self)
        config.require_equal_crops()
        data_root.require_moves(config.data_root, *config.places())
        return config

    def places(self) -> list[Any]:
        """Return the components and paths whose files move with `data_root`."""
        readers = [each.reader for domain in (self.source, self.target) for each in domain.members]
        return [*readers, self.evaluation.reader]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that the run trains, each once, in order."""
        return tuple(dict.fromkeys((*self.compare, self.method)))

    def require_equal_crops(self) -> None:
        """Raise ValueError unless source and target crops have one size, if any method mixes them."""
        source, target = ({_crop_of(each) for each in domain.members} for domain in (self.source, self.target))
        if (len(source) > 1 or source != target) and self.methods != ("source_only",):
            one, other = (" or ".join(sorted(map(_shown, sizes))) for sizes in (source, target))
            raise ValueError(
                f"source.crop is {one} and target.crop {other}, but images of both are mixed; give both the same crop"
            )


def _shown(size: Size | None) -> str:
    return "null" if size is None else str(list(size))


def _crop_of(data: Target) -> Size | None:
    """Return the (height, width) of all training images of a data set, None where they differ."""
    return data.crop or (None if data.keep_ratio else data.resize)
