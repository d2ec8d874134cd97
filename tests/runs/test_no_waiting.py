"""A training step never waits for its device.

On a CPU no wait shows. On the `meta` device, whose tensors have no values, one is an error: whoever reads a number, or
makes a shape depend on one, cannot. All code takes the way there that it takes on a GPU, but for the compiled kernels.
Where there is a GPU, CUDA itself says where the host waits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.overrides import TorchFunctionMode

import tiny
from blda.build.image_run import image_run
from blda.build.reader_factory import class_names
from blda.engine import runtime
from blda.engine.trainer import Trainer
from blda_video.build import RULES, video_run
from blda_video.config import VideoConfig
from blda_video.propagation.motion_network import MotionNetwork
from synthetic import synthetic


def _trainer(folder: Path, mode: str, *overrides: str) -> Trainer:
    config = tiny.load(Path("nowhere"), folder, mode, *tiny.BATCH_NORM, *overrides)
    if isinstance(config, VideoConfig) and config.motion is not None:
        motion = folder / "motion.pt"
        MotionNetwork(class_names(config), (1, -1)).save(motion)
        config = replace(config, motion=replace(config.motion, weights=motion))
    run = synthetic({"image": image_run, "video": video_run}[mode])(config, runtime.start("no"))
    return run.trainer(config.method, folder / "run")


class NoWaitingCopies(TorchFunctionMode):
    """Copies from the host to the device must not wait for it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor):
            assert torch.device(kwargs.get("device") or "cpu").type == "cpu", "numbers copied by a copy that waits"
        found = func(*args, **kwargs)
        if func is torch.Tensor.to and args[0].device != found.device:
            assert kwargs.get("non_blocking"), "a copy that waits"
        return found


@pytest.fixture
def no_values(monkeypatch) -> None:
    """The device of a run is one without values; its tensors still mix with the CPU's."""
    monkeypatch.setattr(Accelerator, "device", property(lambda _: torch.device("meta")))


CASES = [
    ("image", ["method=source_only"]),
    ("image", ["method=reweighted"]),
    ("image", ["method=adjusted"]),
    ("image", ["method=self_training"]),
    ("image", ["method=blda", "blda.density={strength: 0.5}", "blda.warmup=0"]),
    ("image", ["method=blda", "training.channels_last=true", "training.checkpointing=true"]),
    ("image", ["method=blda", "model.encoder={name: mit}"]),
    ("image", ["method=blda", "self_training.masked={block: 8}", "self_training.ignore_top=4"]),
    ("image", ["method=blda", "feature_distance={}", "model.encoder.pretrained=true"]),
    ("image", ["method=blda", "model.hrda={}", "source.crop=[64,64]", "target.crop=[64,64]"]),
    ("video", ["method=blda", "smoothing.scale=2.0", "blda.by_belief=true"]),
    ("video", ["method=blda", "motion={weights: of a network made here}"]),
    *(("video", ["method=self_training", f"rule={rule}"]) for rule in RULES),
]


def _named(part: str | list[str]) -> str:
    return part if isinstance(part, str) else "-".join(part)


@pytest.mark.parametrize(("mode", "overrides"), CASES, ids=_named)
def test_no_step_reads_a_number(tmp_path, no_values, mode, overrides):
    trainer = _trainer(tmp_path, mode, *overrides)
    with NoWaitingCopies():
        trainer.train_step(trainer.batches(0))
    assert trainer.step == 1
    assert {parameter.device.type for parameter in trainer._trained()} == {"meta"}


def test_reading_a_number_is_found(tmp_path, no_values, monkeypatch):
    trainer = _trainer(tmp_path, "image")
    for reads in (
        lambda t: t.sum().item(),
        lambda t: bool((t > 0).any()),
        lambda t: t[t > 0],
        lambda t: t.tolist(),
        lambda t: torch.tensor([1.0, 2.0], device=t.device),
        lambda t: torch.ones(2).to(t.device),
    ):
        monkeypatch.setattr(trainer.method, "augment", lambda image, draw, reads=reads: (reads(image), image)[1])
        with NoWaitingCopies(), pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
            trainer.train_step(trainer.batches(0))


@pytest.mark.cuda
@pytest.mark.parametrize(("mode", "overrides"), CASES, ids=_named)
def test_no_step_waits_for_a_gpu(tmp_path, mode, overrides):
    trainer = _trainer(tmp_path, mode, *overrides)
    batches = trainer.batches(0)
    with runtime.StopSignal() as stop:
        for _ in range(3):  # the first compiles
            trainer.train_step(batches)
            trainer._stopped(stop)
        torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.train_step(batches)
            trainer._stopped(stop)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_verdict_arrives():
    assert runtime.AsyncScalar(torch.tensor([1.0, 0.0])).tolist() == [1.0, 0.0]
