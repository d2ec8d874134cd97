"""Trains config files one after the other, on as many processes as it is launched with; see `tiny.on_two_processes`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import tiny
from blda.config import loading
from blda.config.schema import Config
from blda.engine import runtime
from blda.models.encoders import mit
from blda_video.config import VideoConfig
from blda_video.jobs.kinds import ONLY_VIDEO

if __name__ == "__main__":
    mit.VARIANTS["tiny"] = tiny.MIT
    rank = runtime.start("no").process_index
    torch.set_num_threads(1)
    for file in map(Path, sys.argv[1:]):
        # By keys alone: `tiny.compose` makes image runs of a video's frames too.
        kind = VideoConfig if ONLY_VIDEO & loading.tree_of(file).keys() else Config
        trainer = tiny.with_sgd(tiny.trainer(loading.load(file, kind), ""))
        scores = trainer.fit()
        torch.save({"states": tiny.states(trainer), "scores": scores}, f"{file}.{rank}.pt")
