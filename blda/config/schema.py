"""A run, described by frozen dataclasses; nothing below `build` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from blda.config import data_root
from blda.config.data_union import DataUnion
from blda.config.ranges import Count, Natural, NotNegative, Positive, PositiveShare, Range, Share, Size
from blda.config.resolution import at_resolution

C = TypeVar("C", bound="Config")

Component = dict[str, Any]
"""A part by name with its keywords, for example {name: dis, preset: medium}; `build` calls its constructor."""
THINGS = ("light", "sign", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""Cityscapes' classes of countable things, 6, 7 and 11 to 18 of its 19 (DAFormer, section 3.3)."""


def _one_of(key: str, value: str, *known: str) -> None:
    if value not in known:
        raise ValueError(f"{key} is '{value}'; use {' or '.join(known)}")


def _shown(size: Size | None) -> str:
    return "null" if size is None else str(list(size))


@dataclass(frozen=True)
class Target(DataUnion):
    """Images of one domain, and the training crops cut from them; a list of these joins data sets, see `DataUnion`.

    reader: {name, root, ...}. resize: (height, width) of the whole image, null keeps its size.
    crop: (height, width) of a random window of the resized image, null for the whole.
    flip: mirror half of the crops. keep_ratio: resize to the largest size of the image's shape within `resize`
        (upright or lying), not to `resize` itself.
    share: of the draws, in a list of data sets.
    """

    reader: Component
    resize: Size | None = None
    crop: Size | None = None
    flip: bool = True
    keep_ratio: bool = False
    share: PositiveShare | None = None
    others: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Source(Target):
    """Labelled images of the source domain; see `Target` for the other keys.

    rename: the data set's class names -> the run's.
    max_share: crops in which one class has this share or more are drawn again.
    rare: rare-class sampling, null for uniform sampling.
    photometric: distort the colours of the images of method source_only, as published (blda/data/distortion.py).
    """

    SHARED = (*Target.SHARED, "max_share", "rare", "photometric")

    rename: dict[str, str] = field(default_factory=dict)
    max_share: PositiveShare = 0.75
    rare: Rare | None = None
    photometric: bool = False
    others: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Rare:
    """Rare-class sampling (METHOD 6)."""

    temperature: Positive = 0.01
    min_pixels: Natural = 3000
    min_crop_ratio: NotNegative = 0.5


@dataclass(frozen=True)
class Evaluation:
    """Labelled images to evaluate on; see also blda/models/test_time_augmentation.py.

    rename: the data set's class names -> the run's. size: (height, width) of the image, null for its own.
    keep_ratio: see `Target`. window: (height, width) of sliding windows, null to predict the whole image at once.
    stride: (height, width) between windows, null for half a window. window_batch: windows predicted at a time.
    flip: average with the mirror image. every: steps between evaluations. protocols: names or {name, classes, ...}.
    """

    reader: Component
    rename: dict[str, str] = field(default_factory=dict)
    size: Size | None = None
    keep_ratio: bool = False
    window: Size | None = None
    stride: Size | None = None
    window_batch: Count = 4
    flip: bool = False
    every: Count = 2000
    protocols: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.stride is not None and self.window is None:
            raise ValueError("evaluation.stride needs evaluation.window; give both, or remove the stride")


@dataclass(frozen=True)
class Data:
    """Handling of data sets.

    on_error: action at a frame whose files cannot be used: 'stop', or 'skip' to take another frame and report it.
    on_unseen: action when no source label shows a scored class: 'stop', or 'warn', for trials with a few images.
    cache: folder for class statistics, null for `<run>/cache`; runs may share it.
    draws: 'epochs' shows every frame once an epoch, a class's frames have at least `rare.min_pixels` of it, and a crop
    is
        drawn at most 10 times; 'published' draws with replacement, a class's frames have more than that, and a crop is
        drawn at most 11 times.
    label_resize: 'nearest_exact' labels a pixel by the nearest centre, 'nearest' by the pixel under its upper left
        corner (published); the names are OpenCV's.
    """

    on_error: str = "stop"
    on_unseen: str = "stop"
    cache: str | None = None
    draws: str = "epochs"
    label_resize: str = "nearest_exact"

    def __post_init__(self) -> None:
        _one_of("data.on_error", self.on_error, "stop", "skip")
        _one_of("data.on_unseen", self.on_unseen, "stop", "warn")
        _one_of("data.draws", self.draws, "epochs", "published")
        _one_of("data.label_resize", self.label_resize, "nearest_exact", "nearest")


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
class Mask:
    """Blocks of about `block` pixels, each hidden from the student with probability `ratio`."""

    block: Count = 64
    ratio: Share = 0.7


@dataclass(frozen=True)
class Masked(Mask):
    """Loss on masked images.

    domains: 'target', or 'both' to take every other image from the source, with its label.
    jitter: jitter and blur the images before masking.
    """

    domains: str = "target"
    jitter: bool = True

    def __post_init__(self) -> None:
        _one_of("self_training.masked.domains", self.domains, "target", "both")


@dataclass(frozen=True)
class SelfTraining:
    """Self-training (METHOD 6).

    momentum: momentum of the teacher. threshold: smallest probability of a confident pseudo-label.
    ignore_top, ignore_bottom: rows of the target crop without pseudo-label.
    strength: largest change by the colour jitter. jitter, blur: probability of colour jitter and of blur.
    margins: top, bottom, left and right rows and columns of the whole resized target image without pseudo-label, null
        for none.
    masked: third loss, on masked target images (MIC), null for none.
    burn_in: first steps on the source alone, for networks without pretrained weights.
    augment: 'per_image' jitters each image by itself, with torchvision's operations; 'published' jitters a batch
        alike, with the stronger operations of kornia 0.5.8.
    mixer: {name, keyword: value}, builds the mixed image.
    classmix: 'per_image' pastes half of an image's classes; 'per_batch' half of those of the whole batch, ignored
        pixels among them (published).
    """

    momentum: Share = 0.999
    threshold: Share = 0.968
    ignore_top: Natural = 0
    ignore_bottom: Natural = 0
    strength: Share = 0.2
    jitter: Share = 0.8
    blur: Share = 0.5
    margins: tuple[Natural, Natural, Natural, Natural] | None = None
    masked: Masked | None = None
    burn_in: Natural = 0
    augment: str = "per_image"
    mixer: Component = field(default_factory=lambda: {"name": "classmix"})
    classmix: str = "per_image"

    def __post_init__(self) -> None:
        _one_of("self_training.augment", self.augment, "per_image", "published")
        _one_of("self_training.classmix", self.classmix, "per_image", "per_batch")


@dataclass(frozen=True)
class FeatureDistance:
    """Distance between the encoder's features and its pretrained weights' features, on things of the source (METHOD 6).

    strength: lambda. min_ratio: share of a feature's pixels that one thing must cover. things: class names, of which
    the run may lack some.
    """

    strength: NotNegative = 0.005
    min_ratio: Annotated[float, Range(0.5, 1, above=True)] = 0.75
    things: tuple[str, ...] = THINGS


@dataclass(frozen=True)
class Density:
    """Cumulative-density regression (METHOD 5). strength: lambda. power: 2 (paper) or 1 (its code)."""

    strength: NotNegative = 0.2
    power: Annotated[int, Range(1, 2)] = 2


@dataclass(frozen=True)
class Reweighting:
    """Class weights of the method `reweighted`: 1 / share^power."""

    power: NotNegative = 0.5


@dataclass(frozen=True)
class Blda:
    """Class-balanced logits (METHOD 3 and 4).

    tau: strength of the correction. components: Gaussians of a cell's mixture.
    momentum: largest weight of the past in the statistics. warmup: updates until the momentum is reached.
    min_pixels: a class with fewer pixels in a batch is not updated.
    correct_target: False corrects source pixels only.
    by_belief: count a pseudo-labelled pixel for a class sampled from the teacher's probabilities instead of its
        likeliest class.
    density: cumulative-density regression, null for none.
    """

    tau: NotNegative = 0.1
    components: Count = 5
    momentum: Share = 0.99
    warmup: Natural = 1500
    min_pixels: Natural = 100
    correct_target: bool = True
    by_belief: bool = False
    density: Density | None = None


@dataclass(frozen=True)
class Optimizer:
    """AdamW with a linear warm-up, then linear decay to zero.

    head_factor: learning rate of heads as a multiple of lr. no_decay: weights that do not decay, `norms` or, as
    published, only `encoder_layer_norms`. clip: largest gradient norm, null for none.
    """

    lr: Positive = 6e-5
    head_factor: Positive = 10.0
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
    method: source_only, self_training, reweighted or blda. compare: methods to train first, for the closing table.
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
    data: Data = Data()
    self_training: SelfTraining = SelfTraining()
    feature_distance: FeatureDistance | None = None
    blda: Blda = Blda()
    reweighting: Reweighting = Reweighting()
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

    def require_equal_crops(self) -> None:
        """Raise ValueError unless source and target crops have one size, if any method mixes them."""
        source, target = ({_crop_of(each) for each in domain.members} for domain in (self.source, self.target))
        if (len(source) > 1 or source != target) and {*self.compare, self.method} != {"source_only"}:
            one, other = (" or ".join(sorted(map(_shown, sizes))) for sizes in (source, target))
            raise ValueError(
                f"source.crop is {one} and target.crop {other}, but images of both are mixed; give both the same crop"
            )


def _crop_of(data: Target) -> Size | None:
    """Return the (height, width) of all training images of a data set, None where they differ."""
    return data.crop or (None if data.keep_ratio else data.resize)
