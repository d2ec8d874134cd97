"""Check the guarantees of training on the device: resume, two processes, NCCL, signals, half precision.

It trains tests/support/tiny.yaml and tests/support/tiny_video.yaml on their street worlds of 32 x 64 pixels.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

import tiny
from blda.config import loading
from blda.config.schema import Config
from blda.engine import checkpoint, runtime
from blda.engine.trainer import Trainer
from gpu.report import Report, Settings, settings, usable
from gpu.steps import fresh
from runs import ROOT

PLAIN = ("optimizer.clip=null", "model.head.dropout=0.0", "blda.min_pixels=64")
"""Without what rounding can turn into a step of another size."""


def main() -> None:
    given = settings(__doc__)
    report = Report("contracts", given)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, before the first product
    if not usable(report):
        return
    folder = given.work / "contracts"
    worlds = tiny.make_worlds(folder / "worlds") if not (folder / "worlds").exists() else folder / "worlds"
    # Processes of their own take their time to start; what follows runs meanwhile.
    with ThreadPoolExecutor(2) as beside:
        signalled = beside.submit(stopped, worlds, folder / "stopped", given)
        configs = to_launch(worlds, folder / "processes")
        launched = beside.submit(processes, configs, folder / "processes", given)
        for mode in tiny.MODES:
            run = folder / mode
            report.measure(f"resume {mode}", lambda mode=mode, run=run: resume(worlds, run / "resume", mode), needs=5)
            report.measure(f"order {mode}", lambda mode=mode, run=run: order(worlds, run / "order", mode), needs=5)
            if mode == "image":
                for precision in ("bf16",) if given.rehearse else ("fp16", "bf16"):
                    run = folder / precision
                    report.measure(
                        f"precision {precision}", lambda p=precision, run=run: precise(worlds, run, p, 20), needs=5
                    )
        report.measure("SIGTERM saves", signalled.result)
        report.measure("processes", launched.result)


def trainer(worlds: Path, run: Path, mode: str, *overrides: str) -> Trainer:
    """A tiny run in a folder, with an accelerator of its own."""
    config = tiny.load(worlds, run, mode, *overrides)
    return fresh(tiny.compose, config, run)


def resume(worlds: Path, run: Path, mode: str, steps: int = 6) -> dict[str, object]:
    """Compare, with deterministic sums, a whole run with one resumed half way, and with its repetition."""
    options = ("method=blda", tiny.DENSITY, f"training.steps={steps}", "training.deterministic=true")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole = ended(trainer(worlds, run / "whole", mode, *options))
        again = ended(trainer(worlds, run / "again", mode, *options))
        trainer(worlds, run / "split", mode, *options).fit(until=steps // 2)
        split = trainer(worlds, run / "split", mode, *options)
        split.resume()
        resumed = ended(split)
    runtime.set_deterministic(False)
    named = {str(each.message).split(" does not have")[0][:120] for each in caught if "determinis" in str(each.message)}
    return {
        "steps": steps,
        "resumed": compared(whole, resumed),
        "repeated": compared(whole, again),
        "operations_that_know_no_fixed_order": sorted(named),
    }


def order(worlds: Path, run: Path, mode: str, steps: int = 3) -> dict[str, object]:
    """Measure, without deterministic sums, the differences in one gradient and after a few steps of SGD.

    PyTorch's warnings name only operations without a deterministic version. Most of these sums, such as cuDNN's, have
    one that is not used, so no operation is named here.
    """
    options = ("method=blda", tiny.DENSITY, "training.steps=100", *PLAIN)
    first, second = (gradients(tiny.with_sgd(trainer(worlds, run / name, mode, *options))) for name in "ab")
    differ = [name for name, gradient in first.items() if not torch.equal(gradient, second[name])]
    after = []
    for name in "cd":
        made = tiny.with_sgd(trainer(worlds, run / name, mode, *options))
        made.fit(until=steps)
        made.log.close()
        after.append(tiny.states(made))
    return {
        "gradients": len(first),
        "gradients_that_differ": len(differ),
        "such_as": differ[:10],
        "steps": steps,
        "within_tolerance": close(*after),
        **compared(*after),
    }


def gradients(made: Trainer) -> dict[str, torch.Tensor]:
    """Gradients of the source loss on the first batch."""
    runtime.seed_step(0, 0, 0)
    source, target = next(made.batches(0))
    _, loss = next(made.method.losses(source, target))
    made.accelerator.backward(loss)
    made.log.close()
    return {name: p.grad.clone() for name, p in made.student.named_parameters() if p.grad is not None}


def ended(run: Trainer) -> tiny.States:
    """State at the end of a run."""
    run.fit()
    run.log.close()
    return tiny.states(run)


def compared(first: tiny.States, second: tiny.States) -> dict[str, object]:
    """Count the tensors that differ and the largest difference, in all and for each named state."""
    far: dict[str, float] = {}
    for name in tiny.differences(first, second):
        part = name.split("/")[0]
        far[part] = max(far.get(part, 0.0), float((first[name].double() - second[name].double()).abs().max()))
    return {"bit_for_bit": not far, "tensors": len(first), "largest_difference": far}


def precise(worlds: Path, run: Path, precision: str, steps: int) -> dict[str, object]:
    """Check the losses of a run in one precision: they are finite and decrease."""
    options = (f"training.precision='{precision}'", f"training.steps={steps}", "method=blda", "blda.warmup=0")
    made = trainer(worlds, run, "image", *options)
    scores = made.fit()
    made.log.close()
    losses = [line["train/loss/source"] for line in tiny.lines(made) if "train/loss/source" in line]
    norms = [line["train/gradient_norm"] for line in tiny.lines(made) if "train/gradient_norm" in line]
    weights = all(bool(p.isfinite().all()) for p in made.student.parameters())
    scaler = made.accelerator.scaler
    return {
        "device": str(made.accelerator.device),
        "finite": weights and all(loss is not None and math.isfinite(loss) for loss in losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "steps_without_finite_gradient": sum(norm is None or not math.isfinite(norm) for norm in norms),
        "scale": None if scaler is None else scaler.get_scale(),
        "mIoU": scores["mIoU"],
    }


def to_launch(worlds: Path, run: Path) -> list[Config]:
    """Configs that several processes train."""
    configs = [tiny.load(worlds, run / mode, mode, "method=blda", *PLAIN) for mode in tiny.MODES]
    for config in configs:
        Path(config.run).mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state(reset_partial_state=True)  # of what ran before in another precision
    return [tiny.moved(config) for config in configs]


def processes(configs: list[Config], run: Path, given: Settings) -> dict[str, object]:
    """Check that one process with NCCL, and two with gloo on half batches, end with a single process's state."""
    kinds = (("alone", 1, None), ("gloo", 2, "gloo"), ("nccl", 1, "gloo" if given.rehearse else "nccl"))
    with ThreadPoolExecutor(1 if given.rehearse else len(kinds)) as beside:
        jobs = [beside.submit(launched, configs, run / name, count, backend, given) for name, count, backend in kinds]
        alone, gloo, one = (job.result() for job in jobs)
    found: dict[str, object] = {
        "nccl_with_one_process": [compared(a[0], b[0]) for a, b in zip(alone, one, strict=True)]
    }
    for mode, single, both in zip(tiny.MODES, alone, gloo, strict=True):
        found[f"two_processes_{mode}"] = {
            "ranks_alike": compared(both[0], both[1])["bit_for_bit"],
            "within_tolerance": close(both[0], single[0]),
            **compared(both[0], single[0]),
        }
    return found


def close(first: tiny.States, second: tiny.States) -> bool | str:
    """Tell whether two states are equal up to rounding; otherwise name the first tensor that is not."""
    try:
        tiny.assert_close(first, second)
    except AssertionError as error:
        return str(error)[:300]
    return True


def launched(
    configs: list[Config], folder: Path, count: int, backend: str | None, given: Settings
) -> list[list[tiny.States]]:
    """Final states of `count` processes for each config; all share one device."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.yaml" for number in range(len(configs))]
    for file, config in zip(files, configs, strict=True):
        loading.save(config, file)
    command = [sys.executable, "-m", "gpu.one_process", "--backend", backend or "none", *map(str, files)]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "LOCAL_RANK": "0"}
    jobs = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "WORLD_SIZE": str(count)})
        for rank in range(count)
    ]
    try:
        codes = [job.wait(timeout=max(given.seconds, 30)) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    if any(codes):
        raise RuntimeError(f"{count} processes with {backend} ended with {codes}; see the part's log")
    return [[torch.load(f"{file}.{rank}.pt", weights_only=True) for rank in range(count)] for file in files]


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def stopped(worlds: Path, run: Path, given: Settings) -> dict[str, object]:
    """Train by the tool, stop it by SIGTERM at some step, and continue from the saved checkpoint."""
    file = run / "config.yaml"
    long = ("method=blda", "training.steps=100000", "training.workers=1", "log.every=1")
    loading.save(tiny.load(worlds, run / "run", "video", *long), file)
    command = [sys.executable, str(ROOT / "tools" / "train_video.py"), str(file)]
    job = subprocess.Popen(command)
    log, folder = run / "run" / "blda" / "metrics.jsonl", run / "run" / "blda"
    until = time.monotonic() + max(10.0, given.seconds / 2)
    while job.poll() is None and time.monotonic() < until and not (log.exists() and log.stat().st_size):
        time.sleep(0.2)
    start = time.monotonic()
    job.send_signal(signal.SIGTERM)
    code = job.wait(timeout=60)
    took, saved = time.monotonic() - start, checkpoint.latest(folder)
    if saved is None:
        raise RuntimeError(f"stopped with {code} after {took:.1f} s, and no checkpoint in {folder}")
    step = checkpoint.step_of(saved)
    done = subprocess.run([*command, f"training.steps={step + 2}", "--resume"], check=False)
    result = folder / "result.json"
    mean = json.loads(result.read_text()).get("mIoU") if result.exists() else None
    return {"exit": code, "seconds": round(took, 2), "saved_step": step, "resume_exit": done.returncode, "mIoU": mean}


if __name__ == "__main__":
    main()
