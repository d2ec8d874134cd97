"""Measure what digests and checks cost in training, in CPU time of steps and checkpoints; prints JSON.

    python benchmarks/trust_cost.py [--encoder mit-b0] [--rounds 12] [--steps 4] [--data-root DIR]

Blocks of steps with and without take turns in one run on the demo's street world, whose images are read in the same
process. CPU time of one thread, because it holds on a busy machine too. Left out in turn are the digest of a
checkpoint, the checks of labels, the headers of image files and the messages of their decoder. As pairs of blocks
differ by some percent for other reasons, the time spent inside these checks is measured as well; it includes the
conversions of labels that are needed anyway.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from blda import atomic
from blda.config import loading
from blda.data.class_labels import class_labels
from blda.data.readers import decoder_messages, decoding
from blda.data.readers.headers import Header, read_header
from blda.engine import checkpoint, runtime
from blda.engine.trainer import Trainer
from blda_video.build import video_run
from blda_video.config import VideoConfig
from runs import ROOT, circumstances

ENCODERS = {"small": "{name: small}", "mit-b0": "{name: mit, variant: b0}"}
WORLDS = """[
{root: data/world/viper, layout: viper, look: source, split: train, sequences: 4, frames: 5, seed: 1},
{root: data/world/city, layout: cityscapes_seq, look: target, split: train, sequences: 4, frames: 10, seed: 2},
{root: data/world/city, layout: cityscapes_seq, look: target, split: val, sequences: 1, frames: 20, seed: 7}]"""
PARTS = ("selftraining.mixing", "balance.alignment", "balance.density_loss", "balance.pixels")
LABELS = tuple(f"blda.{part}.class_labels" for part in PARTS)
OPTIONS = ("compare=[]", "data.on_unseen=warn", "training.workers=0", "log.bar=false", "self_training.burn_in=0")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--encoder", choices=ENCODERS, default="small")
    arguments.add_argument("--rounds", type=int, default=12, help="pairs of blocks, and of checkpoints")
    arguments.add_argument("--steps", type=int, default=4, help="steps of a block")
    arguments.add_argument("--data-root", help="of the demo's worlds; without it small ones are made")
    given = arguments.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    with tempfile.TemporaryDirectory() as folder, patch.object(runtime, "cores", lambda: 1):
        data = [f"data_root={given.data_root}"] if given.data_root else [f"data_root={folder}", f"worlds={WORLDS}"]
        print(json.dumps(measured(Path(folder), given.encoder, given.rounds, given.steps, data), indent=1))


def measured(folder: Path, encoder: str, rounds: int, steps: int, data: list[str]) -> dict[str, object]:
    """Measure one encoder; `data` are the overrides that say where the worlds are."""
    options = [f"run={folder}/run", *data, f"model.encoder={ENCODERS[encoder]}"]
    config = loading.load(ROOT / "configs/demo.yaml", VideoConfig, [*OPTIONS, *options])
    run = video_run(config, runtime.start("no"))
    run.prepare([config.method])
    trainer = run.trainer(config.method, folder / "run")
    batches = trainer.batches(0)

    def block() -> None:
        for _ in range(steps):
            trainer.train_step(batches)

    for _ in range(3):
        block()
    stepping, saving = in_turns(block, rounds), in_turns(lambda: saved(trainer, folder / "run/a.pt"), rounds)
    inside = [share_inside(block) for _ in range(rounds)]
    return {
        **circumstances("cpu"),
        "threads": 1,
        "encoder": encoder,
        "checkpoint_MB": round((folder / "run/a.pt").stat().st_size / 1e6, 1),
        "step": compared(stepping, steps),
        "inside_checks_percent": round(100 * statistics.median(inside), 3),
        "checkpoint": compared(saving, 1),
    }


def saved(trainer: Trainer, path: Path) -> None:
    """Write a checkpoint."""
    checkpoint.save(path, trainer.state(), {"seed": 0})


def in_turns(work: Callable[[], None], rounds: int) -> list[tuple[float, float]]:
    """Return CPU seconds of `work` with checks and without, in pairs whose order alternates."""
    work()
    pairs = []
    for number in range(rounds):
        taken = {}
        for checks in (True, False) if number % 2 else (False, True):
            with nullcontext() if checks else without_checks():
                began = time.process_time()
                work()
                taken[checks] = time.process_time() - began
        pairs.append((taken[True], taken[False]))
    return pairs


def compared(pairs: list[tuple[float, float]], steps: int) -> dict[str, object]:
    """Milliseconds with and without, and the share that checks add: median over the pairs, and its quartiles."""
    shares = [100 * (checked / bare - 1) for checked, bare in pairs]
    low, middle, high = statistics.quantiles(shares, n=4)
    checked, bare = (1000 * statistics.median(times) / steps for times in zip(*pairs, strict=True))
    return {
        "with_ms": round(checked, 2),
        "without_ms": round(bare, 2),
        "cost_percent": round(middle, 2),
        "quartiles_percent": [round(low, 2), round(high, 2)],
    }


@contextmanager
def without_checks() -> Iterator[None]:
    """Leave out what was added for trust."""
    with ExitStack() as stack:
        for place in LABELS:
            stack.enter_context(patch(place, _unchecked))
        stack.enter_context(patch.object(decoding, "read_header", _kind_alone))
        stack.enter_context(patch.object(decoding, "caught", lambda: nullcontext([])))
        stack.enter_context(patch.object(atomic.hashlib, "sha256", _NoDigest))
        yield


def share_inside(work: Callable[[], None]) -> float:
    """Return the share of the CPU time of `work` that is spent inside the checks of labels and images."""
    spent = [0.0]

    def timed(function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            began = time.process_time()
            try:
                return function(*arguments)
            finally:
                spent[0] += time.process_time() - began

        return call

    @contextmanager
    def caught() -> Iterator[list[str]]:
        context = decoder_messages.caught()
        lines = timed(context.__enter__)()
        yield lines
        timed(context.__exit__)(None, None, None)

    with ExitStack() as stack:
        for place in LABELS:
            stack.enter_context(patch(place, timed(class_labels)))
        stack.enter_context(patch.object(decoding, "read_header", timed(read_header)))
        stack.enter_context(patch.object(decoding, "caught", caught))
        began = time.process_time()
        work()
        return spent[0] / (time.process_time() - began)


def _unchecked(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    labels = labels.long()
    return labels, (labels >= 0) & (labels < num_classes)


def _kind_alone(data: object) -> Header:
    return Header("PNG" if bytes(data[:4]) == b"\x89PNG" else "JPEG", (1, 1))


class _NoDigest:
    def __init__(self, data: bytes = b"") -> None:
        pass

    def update(self, data: bytes) -> None:
        pass

    def hexdigest(self) -> str:
        return 64 * "0"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
