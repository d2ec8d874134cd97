"""A trained segmentation network in use: images of any kind and size in, predictions at their size out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blda.build.evaluation_factory import shown_as
from blda.build.reader_factory import ReaderFactory
from blda.calibration.calibration_file import Calibration
from blda.config.schema import Config
from blda.data.segmentation_dataset import image_tensor
from blda.data.transforms import Size, whole
from blda.deploy.image_input import Picture, is_several, pictures, pixels_of
from blda.deploy.prediction import Prediction, at_size
from blda.engine.inference import Predictor
from blda.engine.label_colors import class_colors

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""`training.precision` -> type of mixed precision."""


@dataclass(frozen=True)
class Origin:
    """Origin of a network.

    path: file of its weights. settings: keys and values of its run's config. scores: what was measured when the run
    ended, by name, with the name of the protocol; empty if unknown.
    """

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)


class TrainedSegmenter:
    """Trained segmentation network with its classes, and with the size, windows and precision of its evaluation.

    network: images (B, 3, h, w) in [0, 1] -> logits (B, C, h, w). config: its keys `classes`, `evaluation` and
    `training.precision` are used. calibration: balances the predictions, None for as they are.

    classes: the C class names. colors: (C, 3) uint8, the classes' colours. protocol: evaluation protocol of the
    run. size: (height, width) that images are resized to, None for their own.
    """

    def __init__(
        self, network: nn.Module, config: Config, origin: Origin, calibration: Calibration | None = None
    ) -> None:
        readers = ReaderFactory(config)
        self.network, self.config, self.origin = network.eval().requires_grad_(False), config, origin
        self.calibration = calibration
        self.classes, self.protocol = readers.class_names, readers.protocols[0]
        self.colors = class_colors(self.classes)
        self.size: Size | None = config.evaluation.size
        self._resize = readers.resize("evaluation")
        self._model = shown_as(config.evaluation, self.network)
        self._precision = PRECISIONS[config.training.precision or "no"]

    def __repr__(self) -> str:
        return f"TrainedSegmenter({self.origin.path}, {len(self.classes)} classes, on {self.device})"

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> TrainedSegmenter:
        """Move the network to a device, such as "cuda"; returns itself."""
        self.network.to(device)
        self.calibration = self.calibration and self.calibration.to(device)
        return self

    def half(self) -> TrainedSegmenter:
        """Predict in float16 where it is safe (mixed precision: weights and sums stay float32); returns itself."""
        return self._in(torch.float16)

    def bfloat16(self) -> TrainedSegmenter:
        """Predict in bfloat16 where it is safe (mixed precision); returns itself."""
        return self._in(torch.bfloat16)

    def float(self) -> TrainedSegmenter:
        """Predict in float32 throughout; returns itself."""
        return self._in(None)

    def predict(self, images: Picture | list[Picture], batch: int = 4) -> Prediction | list[Prediction]:
        """Predict one image, or several, each at its own size.

        images: an image (see `Picture`) or a list of them, of any kinds and sizes; a tensor (B, 3, H, W) or an array
        (B, H, W, 3) is a list. batch: images that the network is given at a time, if it sees them in one size.

        Returns a prediction, or a list in the order of the images. Raises ValueError for what is no RGB image.
        """
        if not is_several(images):
            pixels = pixels_of(images)
            return self.prediction(pixels, self.scores(self.seen(pixels)))
        if batch < 1:
            raise ValueError(f"batch is {batch}; it must be at least 1")
        return self._each([pixels_of(image) for image in pictures(images)], batch)

    def seen(self, pixels: np.ndarray) -> Tensor:
        """Resize an image (H, W, 3) uint8 to what the network sees: (1, 3, h, w) in [0, 1], on the CPU."""
        return image_tensor(whole(self._resize(pixels.shape[:2])).image(pixels))

    def scores(self, image: Tensor) -> Tensor:
        """Predict logits, or balanced scores, (B, C, h, w) float32 of images (B, 3, h, w) from `seen`."""
        return Predictor(self._model, self._autocast, self.calibration)(image.to(self.device))

    def prediction(self, pixels: np.ndarray, scores: Tensor) -> Prediction:
        """Make the prediction of an image (H, W, 3) uint8 from its scores (1, C, h, w)."""
        labels = at_size(scores, pixels.shape[:2]).argmax(1)[0].byte().cpu().numpy()
        return Prediction(pixels, labels, scores, self.classes, self.colors)

    def save_pretrained(self, folder: str | os.PathLike, command: str | None = None) -> Path:
        """Write the network to a folder that `blda.load` reads and the Hugging Face hub shows; returns the folder.

        command: the one that trained it, for the model card; None for what its config says.
        """
        from blda.deploy.hub import save_pretrained

        return save_pretrained(self, folder, command)

    def push_to_hub(self, name: str, private: bool | None = None, command: str | None = None) -> str:
        """Upload the network to the Hugging Face hub as "user/name"; returns its address.

        private: of a repository that does not exist yet; None for the account's default. command: see
        `save_pretrained`. Raises ValueError that names the fix, such as a login that is missing.
        """
        from blda.deploy.hub import push_to_hub

        return push_to_hub(self, name, private, command)

    def _each(self, images: list[np.ndarray], batch: int) -> list[Prediction]:
        """Predict images in batches of those that the network sees in one size, in their order."""
        groups: dict[Size, list[int]] = {}
        for i, pixels in enumerate(images):
            groups.setdefault(self._resize(pixels.shape[:2]), []).append(i)
        predictions: dict[int, Prediction] = {}
        for group in groups.values():
            for first in range(0, len(group), batch):
                chosen = group[first : first + batch]
                scores = self.scores(torch.cat([self.seen(images[i]) for i in chosen]))
                for i, own in zip(chosen, scores.split(1), strict=True):
                    # Their scores may be many: not all stay in a GPU's memory.
                    predictions[i] = self.prediction(images[i], own).on_cpu()
        return [predictions[i] for i in range(len(images))]

    def _in(self, precision: torch.dtype | None) -> TrainedSegmenter:
        self._precision = precision
        return self

    def _autocast(self) -> AbstractContextManager:
        return nullcontext() if self._precision is None else torch.autocast(self.device.type, self._precision)
