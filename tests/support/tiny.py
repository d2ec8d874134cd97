"""A tiny run: its worlds, its config, its trainer, what it ends with, and the same run on two processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from blda.build.image_run import image_run
from blda.build.run import Run
from blda.config import loading
from blda.config.schema import Config
from blda.engine import checkpoint, runtime
from blda.engine.trainer import Trainer
from blda_video.build import READERS, video_run
from blda_video.config import VideoConfig, WorldSpec
from blda_video.street_world.world_writer import make

TESTS = Path(__file__).parent
MODES = {"image": ("tiny.yaml", Config), "video": ("tiny_video.yaml", VideoConfig)}
SIZE = (32, 64)
MIT = ((8, 16, 20, 32), (1, 1, 1, 1))
"""A MiT of few weights, for `blda.models.encoders.mit.VARIANTS`."""
DENSITY = "blda.density={strength: 0.5, power: 1}"
BATCH_NORM = ("model.encoder.norm=batch", "model.head.norm=batch")

States = dict[str, torch.Tensor]


def compose(config: Config, accelerator: Accelerator) -> Run:
    """Compose a video run, or an image run on the images of any data set, a video's too."""
    return (
        video_run(config, accelerator) if isinstance(config, VideoConfig) else image_run(config, accelerator, READERS)
    )


def make_worlds(
    root: Path,
    source: tuple[int, int] = (3, 4),
    target: tuple[int, int] = (3, 5),
    validation: tuple[int, int] = (1, 6),
) -> Path:
    """A source as VIPER and a target as Cityscapes-Seq below `root`; each part has (sequences, frames of each)."""
    make(WorldSpec(root / "viper", "viper", "source", "train", *source, SIZE, seed=1), progress=False)
    make(WorldSpec(root / "city", "cityscapes_seq", "target", "train", *target, SIZE, seed=2), progress=False)
    make(WorldSpec(root / "city", "cityscapes_seq", "target", "val", *validation, SIZE, seed=3), progress=False)
    return root


def roots(worlds: Path) -> list[str]:
    """Overrides by which a config of VIPER and Cityscapes-Seq reads the worlds, which do not show every class."""
    parts = {"source": "viper", "target": "city", "evaluation": "city"}
    return [f"{part}.reader.root={worlds / folder}" for part, folder in parts.items()] + ["data.on_unseen=warn"]


def load(worlds: Path, run: Path, mode: str, *overrides: str) -> Config:
    """The config of the tiny run in one of MODES."""
    name, kind = MODES[mode]
    return loading.load(TESTS / name, kind, [f"run={run}", *roots(worlds), *overrides])


def shrunk(worlds: Path, run: Path) -> list[str]:
    """Overrides that make configs/viper2csseq.yaml, with any encoder, a run of three steps on the worlds."""
    return [
        f"run={run}",
        *roots(worlds),
        "source.reader.every=1",
        "target.reader.key_frames=all",
        *(f"{key}=null" for key in ("source.resize", "target.resize", "evaluation.size")),
        *(f"{part}.crop=[32, 48]" for part in ("source", "target")),
        "source.rare.min_pixels=8",
        "model.head={name: daformer, embed: 8}",
        "training={steps: 3, workers: 0, precision: 'no', checkpoint_every: 100}",
        "log={every: 1, bar: false, trackers: []}",
        f"flow.root={run / 'flow'}",
    ]


def trainer(config: Config, name: str) -> Trainer:
    """A trainer of the config's method at step 0, with its files in the folder `name` of the run."""
    return compose(config, runtime.start("no")).trainer(config.method, Path(config.run) / name)


def resumed(config: Config, name: str = "split") -> Trainer:
    """Train two steps, and the rest in a new trainer that continues from their checkpoint."""
    trainer(config, name).fit(until=2)
    rest = trainer(config, name)
    rest.resume()
    rest.fit()
    return rest


def with_sgd(trainer: Trainer) -> Trainer:
    """Plain descent: Adam turns the rounding of a gradient near zero into a whole step of either sign."""
    trainer.optimizer = torch.optim.SGD([{"params": trainer._trained(), "peak": 0.05}], lr=0.05)
    return trainer


def states(trainer: Trainer) -> States:
    """Every tensor that survives a restart, by path."""
    return _tensors("", {name: part.state_dict() for name, part in trainer.state().items()})


def _tensors(path: str, value: object) -> States:
    if isinstance(value, torch.Tensor):
        return {path: value.clone()}
    items = value.items() if isinstance(value, dict) else ()
    return {name: tensor for key, item in items for name, tensor in _tensors(f"{path}/{key}".strip("/"), item).items()}


def differences(first: States, second: States) -> list[str]:
    """Names of tensors that are not the same bit for bit."""
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def assert_close(first: States, second: States) -> None:
    """The same but for rounding.

    By it a pixel whose two likeliest classes tie falls to either, which moves what is estimated from a class of n
    pixels by 1 / n: let n be at least 64 (`blda.min_pixels`).
    """
    assert first.keys() == second.keys()
    for name, value in first.items():
        most = 0.03 if "_statistics/" in name else 1e-4
        torch.testing.assert_close(
            value, second[name], atol=most, rtol=1e-3, msg=lambda text, name=name: f"{name} {text}"
        )


def lines(trainer: Trainer) -> list[dict[str, float]]:
    """Return the lines that the run has logged so far."""
    return [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]


def moved(config: Config) -> Config:
    """The run from a network away from its first weights, so that two processes can differ in all that they compute.

    At the first weights no pixel is trusted, and a feature distance, zero there, has the direction of rounding.
    """
    start, noise = trainer(config, "start"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in start.student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise).to(parameter.device))
    path = start.folder / "start.pt"
    checkpoint.save(path, {"student": start.student})
    return dataclasses.replace(config, model=dataclasses.replace(config.model, weights=str(path)))


def on_two_processes(configs: Sequence[Config], folder: Path, machines: int = 1) -> list[list[dict]]:
    """For each config what each of two real processes ends with: `states` and `scores`; half of a batch for each.

    One launch for all, as it takes longer than they do; plain descent, as in `with_sgd`. machines: 2 gives each process
    a launcher of its own, as on two machines, which meet at the loopback address.
    """
    for number, config in enumerate(configs):
        training = dataclasses.replace(config.training, batch=config.training.batch // 2)
        config = dataclasses.replace(config, run=f"{config.run}/double", training=training)
        loading.save(config, folder / f"{number}.yaml")
    files = [str(folder / f"{number}.yaml") for number in range(len(configs))]
    jobs = [
        _launched(files, folder / f"machine_{rank}.txt", rank, machines, port)
        for port in [free_port()]
        for rank in range(machines)
    ]
    try:
        codes = [job.wait(timeout=300) for job in jobs]
    finally:
        for job in jobs:
            job.terminate()  # and it its ranks; nothing where all have ended
    assert codes == [0] * machines, "".join(
        (folder / f"machine_{rank}.txt").read_text()[-3000:] for rank in range(machines)
    )
    return [[torch.load(f"{file}.{rank}.pt", weights_only=True) for rank in (0, 1)] for file in files]


def _launched(files: Sequence[str], said: Path, rank: int, machines: int, port: int) -> subprocess.Popen:
    """The launcher of one machine, which writes what it says into a file."""
    where = ["--num_machines", machines, "--machine_rank", rank, "--main_process_ip", "127.0.0.1"]
    command = ["--multi_gpu", "--num_processes", 2, *where, "--main_process_port", port, TESTS / "two_processes.py"]
    path = os.pathsep.join([str(TESTS.parents[1]), os.environ.get("PYTHONPATH", "")])
    with said.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", *map(str, command), *files],
            env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=output,
        )


def free_port(first: int = 0, last: int = 0) -> int:
    """A port that nobody listens to, between two or any; Accelerate 1.2 finds none by itself."""
    for port in range(first, last + 1):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as free:
            return free.getsockname()[1]
    raise OSError(f"no free port from {first} to {last}")
