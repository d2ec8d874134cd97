"""Seconds, memory, shares of the parts, host waits and kernels of a training step, by network and precision.

Random batches of the configs' crops and random weights, as in `benchmarks/step_time.py --synthetic`. The authors of
BLDA: 1.31 s without, 1.59 s with BLDA, DAFormer MiT-B5, RTX 3090, float32.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import step_time
from blda.build.run import Run
from blda.config import loading
from blda.config.schema import Config
from blda.engine import runtime
from blda.engine.trainer import Trainer
from gpu import profile
from gpu.report import Report, Settings, settings, usable
from kinds import of_run
from runs import ROOT
from synthetic import synthetic

FLOAT, BFLOAT = "training.precision='no'", "training.precision=bf16"


@dataclass(frozen=True)
class Case:
    """A config of ours with variants and overrides. tf32: products and convolutions of floats in TF32. details: look
    for host waits and kernels too. needs: seconds."""

    config: str
    overrides: tuple[str, ...] = ()
    tf32: bool = False
    details: bool = False
    needs: float = 12
    variants: tuple[str, ...] = field(default=())


CASES = {
    "daformer bf16 blda": Case("gta2cs", (BFLOAT,), details=True),
    "daformer bf16 self_training": Case("gta2cs", (BFLOAT, "method=self_training")),
    "video bf16 blda": Case("viper2csseq", (BFLOAT,), details=True),
    "daformer fp32 blda": Case("gta2cs", (FLOAT,)),
    "daformer fp32 self_training": Case("gta2cs", (FLOAT, "method=self_training")),
    "daformer tf32 blda": Case("gta2cs", (FLOAT,), tf32=True),
    "mic bf16 blda": Case("gta2cs", (BFLOAT,), variants=("mic",), needs=20),
    "hrda bf16 blda": Case("gta2cs", (BFLOAT,), variants=("hrda",), needs=20),
    "video bf16 self_training": Case("viper2csseq", (BFLOAT, "method=self_training")),
    "daformer bf16 blda channels_last": Case("gta2cs", (BFLOAT, "training.channels_last=true")),
    "daformer bf16 source_only": Case("gta2cs", (BFLOAT, "method=source_only")),
    "daformer fp16 blda": Case("gta2cs", ("training.precision=fp16",)),
    "dacs bf16 blda": Case("gta2cs", (BFLOAT,), variants=("dacs",)),
    "daformer bf16 blda checkpointing": Case("gta2cs", (BFLOAT, "training.checkpointing=true")),
    "mic bf16 self_training": Case("gta2cs", (BFLOAT, "method=self_training"), variants=("mic",), needs=20),
}
COMPILED = {"daformer bf16 blda compiled": Case("gta2cs", (BFLOAT, "training.compile=true"), needs=40)}
TOY = (
    "model.encoder={name: small, channels: [8, 8, 8, 8]}",
    "model.head={name: daformer, embed: 8}",
    "source.crop=[64,64]",
    "target.crop=[64,64]",
    "feature_distance=null",
    "blda.min_pixels=8",
)
TOYS = ("daformer bf16 blda", "video bf16 blda", "daformer tf32 blda", "mic bf16 blda")


def main() -> None:
    given = settings(__doc__)
    report = Report("steps", given)
    if not usable(report):
        return
    cases = {name: CASES[name] for name in TOYS} if given.rehearse else CASES
    for name, case in cases.items():
        report.measure(name, lambda case=case: measured(case, given), needs=0 if given.rehearse else case.needs)


def measured(case: Case, given: Settings) -> dict[str, object]:
    """The report of one case; what it held on the device is given back."""
    set_tf32(case.tf32)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measured(case, given, Path(folder))
    finally:
        set_tf32(False)
        gc.collect()
        if given.device.type == "cuda":
            torch.cuda.empty_cache()


def _measured(case: Case, given: Settings, folder: Path) -> dict[str, object]:
    path = ROOT / "configs" / f"{case.config}.yaml"
    variants = [str(ROOT / "configs" / "variants" / f"{name}.yaml") for name in case.variants]
    overrides = [*step_time.STEADY, *variants, *case.overrides, *(TOY if given.rehearse else ())]
    kind, build = of_run(path, overrides)
    config = loading.load(path, kind, overrides)
    trainer = fresh(synthetic(build), config, folder)
    device = trainer.accelerator.device
    times, peaks = step_time.step_parts(trainer, 2 if given.rehearse else 5)
    found = {**step_time.described(config, trainer.student), "tf32": case.tf32}
    found |= {"device": str(device), "step_s": pace(trainer, 2 if given.rehearse else 5)}
    found |= step_time.summary(times, peaks)
    if case.details:
        batches = trainer.batches(0)
        step = lambda: trainer.train_step(batches)  # noqa: E731
        found |= {"waits": profile.waits(step, device), "kernels": profile.kernels(step, device, most=25)}
    return found


def fresh(compose: Callable[[Config, Accelerator], Run], config: Config, folder: Path) -> Trainer:
    """A trainer with an accelerator of its own: one of another precision may have been before."""
    AcceleratorState._reset_state(reset_partial_state=True)
    run = compose(config, runtime.start(config.training.precision))
    return run.trainer(config.method, folder)


def pace(trainer: Trainer, steps: int) -> float:
    """Seconds a step with nothing watching, the agreement of each step included."""
    batches = trainer.batches(0)
    with runtime.StopSignal() as stop:
        trainer.train_step(batches)
        profile.synchronize(trainer.accelerator.device)
        start = time.perf_counter()
        for _ in range(steps):
            trainer.train_step(batches)
            trainer._stopped(stop)
        profile.synchronize(trainer.accelerator.device)
    return round((time.perf_counter() - start) / steps, 4)


def set_tf32(allowed: bool) -> None:
    """Let float32 products and convolutions round to TF32, or not; PyTorch's own default does so in convolutions."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    with suppress(RuntimeError):  # versions that know only the newer of two ways to say it
        torch.backends.cudnn.allow_tf32 = allowed


if __name__ == "__main__":
    main()
