"""The example for MMSegmentation, on MMSegmentation where it works, else on a stand-in with its interfaces."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import mmseg_stand_in

FILE = Path(__file__).parents[2] / "examples" / "mmsegmentation_loss.py"
COLOURS = torch.tensor([[0.2, 0.5, 0.9], [0.5, 0.5, 0.5], [0.9, 0.3, 0.2]])
HEAD = {"type": "FCNHead", "in_channels": 8, "channels": 8, "num_classes": 3, "in_index": 0, "num_convs": 1}
LOSS = {"type": "BalancedCrossEntropy", "num_classes": 3, "warmup": 5, "min_pixels": 10}


class TinyBackbone(nn.Module):
    """One stage at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.stem(image).relu(),)


@pytest.fixture(scope="module")
def mm():
    """The example's names, and the structures that its data are made of."""
    with pytest.MonkeyPatch.context() as patch:
        real = mmseg_stand_in.install(patch)
        if real:
            importlib.import_module("mmseg.utils").register_all_modules()
        example = runpy.run_path(str(FILE))
        models = importlib.import_module("mmseg.registry").MODELS
        models.register_module()(TinyBackbone)
        structures = importlib.import_module("mmseg.structures"), importlib.import_module("mmengine.structures")
        wrapper = importlib.import_module("mmengine.optim").OptimWrapper
        yield SimpleNamespace(
            real=real,
            models=models,
            sample=structures[0].SegDataSample,
            pixels=structures[1].PixelData,
            wrapper=wrapper,
            config=example["CONFIG"],
        )
    if not real:
        assert "mmseg" not in sys.modules


def model_of(mm, kind: str = "SelfTrainingSegmentor", **keywords) -> nn.Module:
    torch.manual_seed(0)
    head = {**HEAD, "concat_input": False, "dropout_ratio": 0, "loss_decode": LOSS}
    parts = {"backbone": {"type": "TinyBackbone"}, "decode_head": head, **keywords}
    return mm.models.build(
        {"type": kind, "data_preprocessor": {"type": "SegDataPreProcessor", "size": (32, 32)}, **parts}
    )


def data_of(mm, seed: int, labelled: tuple[bool, ...] = (True, False, True, False)) -> dict:
    """A batch as a data loader of MMEngine gives it: blocks of three colours, dark and without labels in the target."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for own in labelled:
        label = torch.randint(0, 3, (4, 4), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
        image = COLOURS[label].movedim(-1, 0) * (1.0 if own else 0.7)
        inputs.append(image)
        samples.append(mm.sample())
        if own:
            label[:2] = 255
            samples[-1].gt_sem_seg = mm.pixels(data=label[None])
    return {"inputs": inputs, "data_samples": samples}


def train(mm, model: nn.Module, seeds: range, optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    wrapper = mm.wrapper(optimizer)
    return [model.train_step(data_of(mm, seed), wrapper) for seed in seeds]


def test_the_segmentor_learns_both_domains(mm) -> None:
    model = model_of(mm, threshold=0.5, alpha=0.9)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], 1e-2)
    losses = train(mm, model, range(60), optimizer)
    assert {"source.loss_balanced", "mixed.loss_balanced"} <= set(losses[0])
    assert losses[-1]["source.loss_balanced"] < losses[0]["source.loss_balanced"] / 3
    balanced = model.decode_head.loss_decode.balanced
    assert balanced.source_statistics.updates == balanced.target_statistics.updates == model.updates == 60
    assert balanced.target_statistics.estimated.all()
    held_out = data_of(mm, 1000, (True,) * 8)
    label = torch.stack([each.gt_sem_seg.data for each in held_out["data_samples"]])[:, 0, 2:]
    with torch.no_grad():
        logits = model(0.7 * torch.stack(held_out["inputs"]), mode="tensor")
    right = nn.functional.interpolate(logits, (32, 32), mode="bilinear").argmax(1)[:, 2:] == label
    assert right.float().mean() > 0.8


def test_a_resumed_run_equals_one_that_never_stopped(mm) -> None:
    states = []
    for stops in ((6,), (3, 6)):
        saved = None
        for first, last in zip((0, *stops), stops, strict=False):
            model = model_of(mm)
            optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.1)
            if saved is not None:
                model.load_state_dict(saved)
            for seed in range(first, last):
                torch.manual_seed(seed)
                train(mm, model, range(seed, seed + 1), optimizer)
            saved = model.state_dict()
        states.append(saved)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any("balanced.target_statistics" in name for name in states[0])


def test_the_loss_serves_an_ordinary_segmentor(mm) -> None:
    model = model_of(mm, "EncoderDecoder")
    data = data_of(mm, 0, (True, True))
    result = model.train_step(data, mm.wrapper(torch.optim.SGD(model.parameters(), 0.1)))
    assert result["decode.loss_balanced"] > 0
    assert model.decode_head.loss_decode.balanced.source_statistics.updates == 1
    loss = mm.models.build({**LOSS, "loss_weight": 2.0})
    z, y = torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)
    half = mm.models.build(LOSS)
    assert loss(z, y, ignore_index=9) == 2 * half(z, y, weight=torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match="leave avg_factor"):
        loss(z, y, avg_factor=3.0)


def test_batches_of_one_domain_are_refused(mm) -> None:
    model = model_of(mm)
    with pytest.raises(ValueError, match="3 of 4 samples are labelled"):
        data = data_of(mm, 0, (True, True, True, False))
        model.train_step(data, mm.wrapper(torch.optim.SGD(model.parameters(), 0.1)))
    assert "SelfTrainingSegmentor" in mm.config
