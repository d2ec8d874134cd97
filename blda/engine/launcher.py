"""Launcher of this process, and the check that its number of processes and settings match the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ON_CPU = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {} -m blda_video.commands.train ..."
_LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "LOCAL_RANK")
"""Set by `accelerate launch` and torchrun."""
_PARENT = os.getppid()
SHARDING = {
    "FSDP": "--use_fsdp",
    "DEEPSPEED": "--use_deepspeed",
    "MEGATRON_LM": "--use_megatron_lm",
    "PARALLELISM_CONFIG": "--use_parallelism_config",
}
"""Ends of the variables ACCELERATE_USE_... by which one network is split over processes -> options of the launcher."""
PRECISIONS = ("no", "bf16", "fp16")
"""Types of mixed precision that a run can have; 'no' is float32."""


def process() -> int | None:
    """Return the process id of the launcher that started this process; None without a launcher."""
    return _PARENT if any(name in os.environ for name in _LAUNCHED) else None


def require_processes(found: int, environment: Mapping[str, str] = os.environ) -> None:
    """Raise ValueError, with the command that works, unless the launcher started the processes it was asked for.

    found: number of processes that Accelerate counts. On a CPU it counts 1 in each of several processes, each of which
    would train by itself.
    """
    size = environment.get("WORLD_SIZE", "")
    wanted = int(size) if size.isdigit() and "LOCAL_RANK" in environment else 1
    if wanted > 1 and wanted != found:
        raise ValueError(
            f"{wanted} processes were launched, but each finds {found} and would train by itself; "
            f"on a CPU use: {ON_CPU.format(wanted)}"
        )
    # `accelerate launch --cpu --num_processes N` starts one process, with an address to meet the others at.
    alone = environment.get("ACCELERATE_USE_CPU", "").lower() == "true" and "RANK" not in environment
    if alone and "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        raise ValueError(
            "several processes were asked for, but accelerate launch --cpu starts one; "
            f"use: {ON_CPU.format('N')}, or --num_processes 1 without MASTER_ADDR"
        )


def require_whole_networks(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ValueError for launchers that split the network over processes, or that compile it.

    The teacher averages the student's parameters after each step, and statistics and checkpoints are of whole networks.
    """
    for name, option in SHARDING.items():
        if environment.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise ValueError(
                f"accelerate launch was told {option}, but every process holds the whole network here; leave it out "
                "(use --multi_gpu), and for memory set training.precision=bf16, training.checkpointing=true or "
                "training.accumulate"
            )
    if (backend := environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()) != "no":
        raise ValueError(
            f"accelerate launch was told --dynamo_backend {backend}; leave it out and set training.compile=true"
        )


def require_precision(precision: str, on_gpu: bool) -> None:
    """Raise ValueError for a precision that the device does not support."""
    if precision == "fp16" and not on_gpu:
        raise ValueError("training.precision is fp16, which needs a GPU; on a CPU use training.precision=no or bf16")


def agreed_precision(precision: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the precision of the config, or the launcher's where the config leaves it open (None), or 'no'.

    Raises ValueError when both name one and they differ, or the launcher's is none that a run can have.
    """
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision is None:
        if asked not in PRECISIONS:
            raise ValueError(f"accelerate launch was told --mixed_precision {asked}; use {', '.join(PRECISIONS)}")
        return asked
    if asked != precision and (asked != "no" or "--mixed_precision" in _arguments()):
        raise ValueError(
            f"accelerate launch was told --mixed_precision {asked}, the config says training.precision={precision}; "
            f"give training.precision={asked}, or leave the launcher's out"
        )
    return precision


def require_accumulation(accumulate: int, environment: Mapping[str, str] = os.environ) -> None:
    """Raise ValueError when the launcher's number of accumulated passes differs from the config's."""
    arguments = _arguments()
    steps = arguments.get("--gradient_accumulation_steps") or environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    if steps and steps != str(accumulate) and (steps != "1" or "--gradient_accumulation_steps" in arguments):
        raise ValueError(
            f"accelerate launch was told --gradient_accumulation_steps {steps}, the config says "
            f"training.accumulate={accumulate}; give training.accumulate={steps}, or leave the launcher's out"
        )


def _arguments() -> dict[str, str]:
    """Return the launcher's command-line options before the script, where the system shows them."""
    try:
        line = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    if process() is None or "accelerate" not in " ".join(line[:3]):
        return {}
    options: dict[str, str] = {}
    for word, after in zip(line, [*line[1:], ""], strict=True):
        if word.endswith(".py") and "accelerate" not in word:
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            options[name.replace("-", "_").replace("__", "--", 1)] = value if equals else after
    return options
