"""Train configs as one of several processes on one device; see `contracts.launched`.

    python -m gpu.one_process --backend nccl|gloo|none CONFIG ...

Its environment holds RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.

Accelerate gives each local rank a device of its own and takes NCCL, which refuses two processes on one device; here all
are local rank 0, and the process group is made before Accelerate finds it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch
from accelerate import PartialState
from torch import distributed as dist

import tiny
from blda.config import loading
from blda_video.jobs.kinds import of_run
from gpu.steps import set_tf32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("nccl", "gloo", "none"), required=True)
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if given.backend == "none":
        del os.environ["LOCAL_RANK"]
    else:
        PartialState(cpu=not torch.cuda.is_available(), backend=given.backend)
    torch.set_num_threads(1)
    set_tf32(False)  # its rounding depends on the size of the batch
    for file in given.files:
        config = loading.load(file, of_run(file)[0])
        training = dataclasses.replace(config.training, batch=config.training.batch // count)
        config = dataclasses.replace(config, training=training, run=f"{config.run}/{given.backend}_{count}")
        trainer = tiny.with_sgd(tiny.trainer(config, ""))
        trainer.fit()
        print(f"rank {rank} of {count}, {given.backend}: {trainer.accelerator.device}", flush=True)
        torch.save({name: tensor.cpu() for name, tensor in tiny.states(trainer).items()}, f"{file}.{rank}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
