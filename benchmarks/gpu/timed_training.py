"""Train one of several runs on one device, in step with the others; see `gpu.training`.

    python -m gpu.timed_training CONFIG [key=value ...] run=FOLDER

The process takes a few steps and notes this in FOLDER. When all runs have done so, it takes some more and writes its
seconds per step. It waits for the number of steps, the same for all, trains, and writes its scores. SIGTERM ends the
training at that step, and the network is scored as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import cv2
import torch

from blda import atomic
from blda.config import loading
from blda.config.schema import Config
from blda.engine import runtime
from blda.engine.trainer import Trainer
from blda_video.jobs.kinds import of_run

READY, START, PACE, GO, SCORES = "ready.json", "start.json", "pace.json", "go.json", "scores.json"
FIRST, TIMED = 5, 20
"""Steps that compile and fill caches, and steps that are timed after."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    kind, compose = of_run(given.config, given.overrides)
    config = loading.load(given.config, kind, given.overrides)
    folder = Path(config.run)
    accelerator = runtime.start(config.training.precision)
    compose(config, accelerator).prepare([config.method])
    # A burn-in is on the source alone: its steps are no measure of the others.
    timed = loading.load(given.config, kind, [*given.overrides, "self_training.burn_in=0"])
    trainer = compose(timed, accelerator).trainer(config.method, folder / "pace")
    atomic.write(folder / PACE, json.dumps(pace(trainer, config, folder)))
    del trainer
    accelerator.free_memory()
    _wait(folder / GO)
    steps = json.loads((folder / GO).read_text())["steps"]
    final = [*given.overrides, f"training.steps={steps}", f"evaluation.every={steps}"]
    run = compose(loading.load(given.config, kind, final), accelerator)
    trainer = run.trainer(config.method, folder)
    start = time.monotonic()
    scores = trainer.fit()
    took = time.monotonic() - start
    whole = bool(scores)
    scores = scores or trainer.evaluate()
    named = {protocol.name for protocol in run.protocols}  # what stands under them stands without them too
    trainer.log.close()
    found = {
        "device": str(accelerator.device),
        "protocol": run.protocols[0].name,
        "steps": steps,
        "steps_done": trainer.step,
        "to_the_end": whole,
        "seconds": round(took, 1),
        "scores": atomic.finite({key: scores[key] for key in scores if key.split("/")[0] not in named}),
    }
    atomic.write(folder / SCORES, json.dumps(found))


def pace(trainer: Trainer, config: Config, folder: Path) -> dict[str, float]:
    """Seconds per step while the other runs take steps too, because they share the GPU's time."""
    first, timed = (1, 1) if trainer.accelerator.device.type == "cpu" else (FIRST, TIMED)
    batches = trainer.batches(0)
    for _ in range(first):
        trainer.train_step(batches)
    _drain(trainer)
    atomic.write(folder / READY, "{}")
    _wait(folder / START)
    start = time.perf_counter()
    for _ in range(timed):
        trainer.train_step(batches)
    _drain(trainer)
    seconds = (time.perf_counter() - start) / timed
    return {
        "seconds_per_step": round(seconds, 4),
        "cores": len(os.sched_getaffinity(0)),
        "batch": config.training.batch,
    }


def _wait(path: Path) -> None:
    """Wait until the process that started all runs has written a file."""
    while not path.exists():
        time.sleep(0.1)


def _drain(trainer: Trainer) -> None:
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
