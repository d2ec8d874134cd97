"""Measure seconds, memory, shares of the phases, host waits and kernels of a training step, by network and precision.

Random batches of the configs' crops and random weights, as in `benchmarks/step_time.py --synthetic`. Cases that are
compared are built together and take turns, a few steps each, so that other load on the machine affects them alike:
`step_s` is the median over the turns, `fastest_s` the fastest turn. The authors of BLDA: 1.31 s without, 1.59 s with
BLDA, DAFormer MiT-B5, RTX 3090, float32.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from blda_video.jobs.kinds import of_run
from gpu import profile
from gpu.report import Report, Settings, settings, usable
from runs import ROOT
from synthetic import synthetic

FLOAT, BFLOAT, GRAPHS = "training.precision='no'", "training.precision=bf16", "training.cuda_graphs=true"
PLAIN, SELF = "method=source_only", "method=self_training"


@dataclass(frozen=True)
class Case:
    """A config of this project with overrides and variants. tf32: float32 products and convolutions use TF32. parts:
    also measure the phases of a step and host waits. kernels: also measure the kernels.
    """

    config: str
    overrides: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    tf32: bool = False
    parts: bool = False
    kernels: bool = False


GROUPS = {
    "daformer bf16": (
        40,
        {
            "daformer bf16 blda": Case("gta2cs", (BFLOAT,), parts=True, kernels=True),
            "daformer bf16 blda graphs": Case("gta2cs", (BFLOAT, GRAPHS)),
            "daformer bf16 self_training": Case("gta2cs", (BFLOAT, SELF)),
            "daformer bf16 self_training graphs": Case("gta2cs", (BFLOAT, GRAPHS, SELF)),
            "daformer bf16 source_only": Case("gta2cs", (BFLOAT, PLAIN)),
            "daformer bf16 blda channels_last": Case("gta2cs", (BFLOAT, "training.channels_last=true")),
        },
    ),
    "video bf16": (
        20,
        {
            "video bf16 blda": Case("viper2csseq", (BFLOAT,), parts=True),
            "video bf16 blda graphs": Case("viper2csseq", (BFLOAT, GRAPHS), parts=True),
            "video bf16 self_training": Case("viper2csseq", (BFLOAT, SELF)),
        },
    ),
    "two resolutions bf16": (
        18,
        {
            "hrda bf16 blda": Case("gta2cs", (BFLOAT,), ("hrda",)),
            "mic bf16 blda": Case("gta2cs", (BFLOAT,), ("mic",)),
        },
    ),
    "daformer fp32": (
        15,
        {
            "daformer fp32 blda": Case("gta2cs", (FLOAT,)),
            "daformer fp32 blda graphs": Case("gta2cs", (FLOAT, GRAPHS)),
            "daformer tf32 blda graphs": Case("gta2cs", (FLOAT, GRAPHS), tf32=True),
            "daformer fp32 self_training": Case("gta2cs", (FLOAT, SELF)),
        },
    ),
    "others": (
        12,
        {
            "daformer fp16 blda": Case("gta2cs", ("training.precision=fp16",)),
            "dacs bf16 blda": Case("gta2cs", (BFLOAT,), ("dacs",)),
            "daformer bf16 blda checkpointing": Case("gta2cs", (BFLOAT, "training.checkpointing=true")),
        },
    ),
}
"""Name -> seconds that it needs at least, and cases. Those of the last are built and timed one by one."""
COMPILED = {"daformer bf16 blda compiled": Case("gta2cs", (BFLOAT, "training.compile=true"))}
TOY = (
    "model.encoder={name: small, channels: [8, 8, 8, 8]}",
    "model.head={name: daformer, embed: 8}",
    "source.crop=[64,64]",
    "target.crop=[64,64]",
    "feature_distance=null",
    "blda.min_pixels=8",
)
TOYS = {"daformer bf16": ("daformer bf16 blda", "daformer bf16 source_only"), "video bf16": ("video bf16 blda",)}
FIRST, TURNS, STEPS = 3, 5, 2
"""Steps before any is timed, whose losses are kept; turns that each case takes; steps a turn."""


def main() -> None:
    given = settings(__doc__)
    report = Report("steps", given)
    if not usable(report):
        return
    for name, (needs, cases) in GROUPS.items():
        if given.rehearse:
            cases = {case: cases[case] for case in TOYS.get(name, ())}
        parts = [{case: cases[case]} for case in cases] if name == "others" else [cases]
        for some in filter(None, parts):
            report.measure(_title(name, some), lambda some=some: turns(some, report), 0 if given.rehearse else needs)


def _title(group: str, cases: dict[str, Case]) -> str:
    return f"turns: {group if len(cases) > 1 else next(iter(cases))}"


def turns(cases: dict[str, Case], report: Report) -> dict[str, object]:
    """Time cases that take turns and record each one's report; returns the seconds of every turn.

    A case that fails is reported and does not affect the others. Memory of the cases on the device is freed.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _turns(cases, report, Path(folder))
        finally:
            set_tf32(False)
            gc.collect()
            if report.given.device.type == "cuda":
                torch.cuda.empty_cache()


def _turns(cases: dict[str, Case], report: Report, folder: Path) -> dict[str, object]:
    given, running, seconds = report.given, {}, {}
    AcceleratorState._reset_state(reset_partial_state=True)  # one of another precision may have been before
    for name, case in cases.items():
        if name in report.failed:  # and left the device of no use to the process before this one
            continue
        with reported(name, report):
            running[name] = Running(name, case, given, folder / str(len(running)))
    for _ in range(2 if given.rehearse else TURNS):
        for name, one in list(running.items()):
            with reported(name, report, lambda name=name: running.pop(name)):
                seconds.setdefault(name, []).append(one.turn(1 if given.rehearse else STEPS))
                median, fastest = statistics.median(seconds[name]), min(seconds[name])
                report.put(name, one.found | {"step_s": round(median, 4), "fastest_s": fastest})
    for name, one in running.items():
        with reported(f"{name}, details", report):
            report.put(name, report.results[name] | one.details(given.rehearse))
    return seconds


@contextmanager
def reported(name: str, report: Report, after: object = None) -> Iterator[None]:
    """Record an error of a case; one that makes the device unusable ends the part."""
    try:
        yield
    except Exception as error:
        report.fail(name, error)
        if after is not None:
            after()
    else:
        print(f"{name}: {report.left():.0f} s left", flush=True)


class Running:
    """A trainer of a case that has taken its first steps."""

    def __init__(self, name: str, case: Case, given: Settings, folder: Path) -> None:
        self.case = case
        path = ROOT / "configs" / f"{case.config}.yaml"
        variants = [str(ROOT / "configs" / "variants" / f"{variant}.yaml") for variant in case.variants]
        overrides = [*step_time.STEADY, *variants, *case.overrides, *(TOY if given.rehearse else ())]
        kind, compose = of_run(path, overrides)
        config = loading.load(path, kind, overrides)
        run = synthetic(compose)(config, runtime.start(config.training.precision))
        self.trainer = run.trainer(config.method, folder)
        self.device = self.trainer.accelerator.device
        self.batches = self.trainer.batches(0)
        self.found = {**step_time.described(config, self.trainer.student), "tf32": case.tf32}
        self.found |= {"device": str(self.device), "cuda_graphs": config.training.cuda_graphs}
        set_tf32(case.tf32)
        start = time.perf_counter()
        for _ in range(FIRST):
            self.trainer.train_step(self.batches)
        self.found["losses"] = {key: torch.stack(seen).tolist() for key, seen in self.trainer._seen.items()}
        self.found["first_steps_s"] = round(time.perf_counter() - start, 2)

    def turn(self, steps: int) -> float:
        """Seconds per step without profiling, including the agreement of processes in each step."""
        set_tf32(self.case.tf32)
        profile.synchronize(self.device)
        with runtime.StopSignal() as stop:
            start = time.perf_counter()
            for _ in range(steps):
                self.trainer.train_step(self.batches)
                self.trainer._stopped(stop)
            profile.synchronize(self.device)
        return round((time.perf_counter() - start) / steps, 4)

    def details(self, rehearse: bool) -> dict[str, object]:
        """Measure the details that the case asks for beside the time."""
        set_tf32(self.case.tf32)
        found: dict[str, object] = {}
        step = lambda: self.trainer.train_step(self.batches)  # noqa: E731
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            profile.synchronize(self.device)
            found["step_MB_beyond_what_is_held"] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
        if self.case.parts:
            found |= step_time.summary(*step_time.step_parts(self.trainer, 2 if rehearse else 3))
            found["waits"] = profile.waits(step, self.device)
        if self.case.kernels:
            found["kernels"] = profile.kernels(step, self.device, most=25)
        return found


def fresh(compose: Callable[[Config, Accelerator], Run], config: Config, folder: Path) -> Trainer:
    """Make a trainer with its own accelerator, because an earlier one may have had another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    run = compose(config, runtime.start(config.training.precision))
    return run.trainer(config.method, folder)


def set_tf32(allowed: bool) -> None:
    """Let float32 products and convolutions round to TF32, or not; PyTorch's own default does so in convolutions."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    with suppress(RuntimeError):  # versions that know only the newer of two ways to say it
        torch.backends.cudnn.allow_tf32 = allowed


if __name__ == "__main__":
    main()
