"""An image that a network cannot predict is named."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from blda.data.sample import Sample
from blda.engine.evaluator import Evaluator
from blda.engine.inference import Predictor


def test_an_image_that_does_not_fill_a_normalisation_is_named() -> None:
    images = [Sample(torch.zeros(1, 3, size, size), None, (f"drive/{size}",), (0,)) for size in (2, 1)]
    norm = nn.GroupNorm(3, 3)
    with pytest.raises(ValueError, match=r"drive/1: an image of 1 x 1 pixels cannot be predicted \(.*; leave it out"):
        Evaluator(images, list, Accelerator(cpu=True), bar=False)(Predictor(norm))
