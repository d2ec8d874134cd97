"""The promises of the design, on the smallest run that can break them: both modes, a street world of 32 x 64 pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blda import configfile
from blda.build import Build
from blda.config import Config
from blda.data.sample import Sample
from blda.engine import checkpoint, runtime
from blda.engine.trainer import Trainer, TrainingStopped
from blda_video.build import VideoBuild
from blda_video.config import VideoConfig
from blda_video.data.world.writer import WorldSpec, make

ROOT = Path(__file__).parents[2]
STEPS = 4

CONFIG = """
run: {root}/run
seed: 3
method: blda
source:
  reader: {{name: viper, root: {root}/viper, every: 1}}
  crop: [32, 48]
  rare: {{temperature: 0.5, min_pixels: 8, min_crop_ratio: 0.5}}
target:
  reader: {{name: cityscapes_seq, root: {root}/city, split: train, key_frames: all}}
  crop: [32, 48]
evaluation:
  reader: {{name: cityscapes_seq, root: {root}/city, split: val}}
  every: 100
  protocols: [viper15]
model:
  encoder: {{name: small, channels: [8, 8, 8, 8], norm: group}}
  head: {{name: daformer, embed: 8, norm: group}}
self_training: {{threshold: 0.06, momentum: 0.9}}
blda: {{tau: 0.5, warmup: 4, min_pixels: 8}}
optimizer: {{lr: 1e-2, head_factor: 2, warmup: 1, clip: 1.0}}
training: {{steps: {steps}, batch: 2, workers: 0, checkpoint_every: 100}}
log: {{every: 1, pictures: 2, bar: false}}
"""
VIDEO = "offsets: [-1, 1]\nflow: {name: dis, preset: ultrafast}\nsmoothing: {scale: 2.0}\n"
MODES = {"image": (Config, Build), "video": (VideoConfig, VideoBuild)}


DENSITY = "blda.density={strength: 0.5, power: 1}"


class ImageOfSequence(Build):
    """Image mode on the images of a video data set."""

    readers = VideoBuild.readers


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("worlds")
    size = (32, 64)
    make(WorldSpec(root / "viper", "viper", "source", "train", 3, 4, size, seed=1), progress=False)
    make(WorldSpec(root / "city", "cityscapes_seq", "target", "train", 3, 5, size, seed=2), progress=False)
    make(WorldSpec(root / "city", "cityscapes_seq", "target", "val", 1, 6, size, seed=3), progress=False)
    return root


def _config(worlds: Path, tmp_path: Path, mode: str, *overrides: str) -> Config:
    path = tmp_path / "config.yaml"
    text = CONFIG.format(root=worlds, steps=STEPS)
    path.write_text(text + (VIDEO if mode == "video" else ""), encoding="utf-8")
    return configfile.load(path, MODES[mode][0], [f"run={tmp_path}", *overrides])


def _trainer(config: Config, name: str) -> Trainer:
    build = VideoBuild if isinstance(config, VideoConfig) else ImageOfSequence
    return build(config, runtime.start("no")).trainer(config.method, Path(config.run) / name)


def _with_sgd(trainer: Trainer) -> Trainer:
    """Plain descent: Adam turns the rounding of a gradient near zero into a whole step of either sign."""
    trainer.optimizer = torch.optim.SGD([{"params": trainer._trained(), "peak": 0.05}], lr=0.05)
    return trainer


def _states(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every tensor that survives a restart, by path."""
    flat: dict[str, torch.Tensor] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            flat[prefix] = value.clone()
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}/{key}", item)

    for name, item in trainer.state().items():
        walk(name, item.state_dict())
    return flat


def _differences(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def _assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name} {text}"
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", [("source_only",), ("reweighted",), ("blda",), ("blda", DENSITY)], ids="-".join)
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(worlds, tmp_path, mode, method):
    config = _config(worlds, tmp_path, mode, f"method={method[0]}", *method[1:])
    whole = _trainer(config, "whole")
    assert whole.fit()["mIoU"] >= 0
    _trainer(config, "split").fit(until=2)
    resumed = _trainer(config, "split")
    resumed.resume()
    assert resumed.step == 2
    resumed.fit()
    assert _differences(_states(whole), _states(resumed)) == []


@pytest.mark.parametrize(
    "name", ["trainer", "student", "teacher", "optimizer", "source_statistics", "target_statistics", "density_head"]
)
def test_every_named_state_matters(worlds, tmp_path, name):
    config = _config(worlds, tmp_path, "image", DENSITY)
    whole, cut = _trainer(config, "run"), _trainer(config, "run")
    whole.fit(until=2)
    states = checkpoint.read(checkpoint.latest(whole.folder))
    assert name in states
    objects = cut.state()
    assert objects.keys() == states.keys()
    for other in objects.keys() - {name}:
        objects[other].load_state_dict(states[other])
    if name != "trainer":
        assert cut.step == 2
    for trainer in (whole, cut):
        trainer.fit(until=3)
    assert _differences(_states(whole), _states(cut)), f"nothing depends on '{name}'"


def test_clip_without_context_is_an_image_bit_for_bit(worlds, tmp_path):
    image = _trainer(_config(worlds, tmp_path, "image"), "image")
    clip = _trainer(_config(worlds, tmp_path, "video", "offsets=[]", "consistency=[]"), "clip")
    scores = image.fit(), clip.fit()
    assert _differences(_states(image), _states(clip)) == []
    assert scores[0]["mIoU"] == scores[1]["mIoU"]


def test_context_changes_a_run(worlds, tmp_path):
    image = _trainer(_config(worlds, tmp_path, "image"), "image")
    clip = _trainer(_config(worlds, tmp_path, "video"), "clip")
    for trainer in (image, clip):
        trainer.fit(until=2)
    changed = _differences(_states(image), _states(clip))
    assert any(name.startswith("target_statistics") for name in changed)


@pytest.mark.parametrize("mode", MODES)
def test_target_labels_are_never_read(worlds, tmp_path, mode):
    """The labels of the target's training split are replaced by garbage; training does not notice."""
    config = _config(worlds, tmp_path, mode)
    clean = _trainer(config, "clean")
    clean.fit(until=2)
    labels = sorted((worlds / "city" / "gtFine" / "train").rglob("*.png"))
    assert labels
    kept = [path.read_bytes() for path in labels]
    try:
        for path in labels:
            path.write_bytes(b"no image")
        spoiled = _trainer(config, "spoiled")
        spoiled.fit(until=2)
    finally:
        for path, content in zip(labels, kept, strict=True):
            path.write_bytes(content)
    assert _differences(_states(clean), _states(spoiled)) == []


def test_accumulated_passes_are_one_larger_batch(worlds, tmp_path):
    """Source-only: with BLDA, statistics are rightly updated once a pass."""
    options = ["method=source_only", "optimizer.clip=null", "model.head.dropout=0.0"]
    whole = _with_sgd(_trainer(_config(worlds, tmp_path, "image", *options), "whole"))
    split = _config(worlds, tmp_path, "image", *options, "training.batch=1", "training.accumulate=2")
    parts = _with_sgd(_trainer(split, "parts"))
    before = _states(whole)
    for trainer in (whole, parts):
        trainer.fit(until=2)
    assert len(_differences(before, _states(whole))) > 20
    _assert_close(_states(parts), _states(whole))


def test_loss_without_number_stops_and_keeps_the_good_checkpoint(worlds, tmp_path):
    trainer = _trainer(_config(worlds, tmp_path, "image", "training.checkpoint_every=1"), "nan")
    trainer.fit(until=2)
    batches = trainer.batches

    def poisoned(start: int):
        for source, target in batches(start):
            yield replace(source, image=source.image * float("nan")), target

    trainer.batches = poisoned
    with pytest.raises(TrainingStopped, match=r"is not finite; .*step_000002\.pt"):
        trainer.fit()
    assert checkpoint.step_of(checkpoint.latest(trainer.folder)) == 2
    saved = checkpoint.read(checkpoint.latest(trainer.folder))["student"]
    assert all(value.isfinite().all() for value in saved.values())


def test_weights_without_number_are_not_saved(worlds, tmp_path):
    """A finite loss with a gradient that is not: the next loss would tell, but the checkpoint comes first."""
    trainer = _trainer(_config(worlds, tmp_path, "image"), "nan")
    trainer.fit(until=1)
    with torch.no_grad():
        next(trainer.student.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(TrainingStopped, match=r"step_000001\.pt"):
        trainer.save()


def test_steps_survive_an_evaluation_that_fails(worlds, tmp_path):
    trainer = _trainer(_config(worlds, tmp_path, "image", "evaluation.every=2"), "broken")

    def fails(predict):
        raise ValueError("cannot read a label")

    trainer.evaluator = fails
    with pytest.raises(ValueError, match="cannot read a label"):
        trainer.fit()
    assert checkpoint.step_of(checkpoint.latest(trainer.folder)) == 2


def test_a_changed_rate_takes_effect_on_resume(worlds, tmp_path):
    _trainer(_config(worlds, tmp_path, "image"), "rate").fit(until=2)
    resumed = _trainer(_config(worlds, tmp_path, "image", "optimizer.lr=1e-5"), "rate")
    resumed.resume()
    assert sorted({group["peak"] for group in resumed.optimizer.param_groups}) == pytest.approx([1e-5, 2e-5])


def test_log_has_losses_scores_shares_and_bias_per_class(worlds, tmp_path):
    trainer = _trainer(_config(worlds, tmp_path, "video"), "log")
    trainer.fit()
    trainer.log.close()
    lines = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    keys = set().union(*lines)
    expected = {"loss/source", "loss/mixed", "learning_rate", "pseudo_label/share/road", "pseudo_label/weight"}
    expected |= {"bias_source/road", "bias_target/bicycle", "seconds_per_step", "gradient_norm"}
    assert {f"train/{key}" for key in expected} <= keys
    assert {"target/mIoU", "target/mAcc", "target/std", "target/iou/road", "target/acc/car"} <= keys
    assert {"target/viper15/mIoU", "target/consistency", "target/best_on_validation/mIoU"} <= keys
    assert {"target/consistency/road", "target/flicker/car", "target/M5/sky", "target/viper15/M5"} <= keys
    assert list(trainer.folder.glob("events.out.tfevents.*"))


def test_resumed_log_has_each_step_once(worlds, tmp_path):
    config = _config(worlds, tmp_path, "image", "training.checkpoint_every=2")
    first = _trainer(config, "log")
    first.fit(until=3)
    checkpoint.path_of(first.folder, 3).unlink()  # killed after step 3 was logged
    again = _trainer(config, "log")
    again.resume()
    again.log.resume(again.step)
    again.fit()
    lines = [json.loads(line) for line in (again.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss/source" in line] == [1, 2, 3, 4]


TWO_PROCESSES = """
import sys, torch
from pathlib import Path
from blda import configfile
from blda.engine import runtime
from test_contracts import Build, Config, ImageOfSequence, VideoBuild, VideoConfig, _states, _with_sgd
config = configfile.load(sys.argv[1], {"image": Config, "video": VideoConfig}[sys.argv[2]], sys.argv[4:])
build = {"image": ImageOfSequence, "video": VideoBuild}[sys.argv[2]]
accelerator = runtime.start("no")
torch.set_num_threads(1)
trainer = _with_sgd(build(config, accelerator).trainer(config.method, Path(config.run)))
scores = trainer.fit()
torch.save({"states": _states(trainer), "scores": scores}, f"{sys.argv[3]}_{accelerator.process_index}.pt")
"""


def _on_two_processes(tmp_path: Path, mode: str, *overrides: str) -> list[dict]:
    """What each of two real processes ends with, on the config of `_config`."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    arguments = [tmp_path / "config.yaml", mode, tmp_path / "rank", f"run={tmp_path / 'double'}", *overrides]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--main_process_port", "0", str(script), *map(str, arguments)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(("mode", "more"), [("image", [DENSITY]), ("video", [])], ids=["image with density", "video"])
def test_two_processes_equal_one_on_the_same_global_batch(worlds, tmp_path, mode, more):
    options = ["model.head.dropout=0.0", "optimizer.clip=null", *more]
    single = _with_sgd(_trainer(_config(worlds, tmp_path, mode, *options), "single"))
    scores = single.fit()
    ranks = _on_two_processes(tmp_path, mode, "training.batch=1", *options)
    assert _differences(ranks[0]["states"], ranks[1]["states"]) == []
    assert ranks[0]["scores"] == pytest.approx(ranks[1]["scores"], nan_ok=True, abs=0)
    _assert_close(ranks[0]["states"], _states(single))
    assert ranks[0]["scores"]["mIoU"] == pytest.approx(scores["mIoU"], abs=0.5)


def test_two_processes_evaluate_and_save_one_network_with_batch_norm(worlds, tmp_path):
    """Running statistics are each process's own after a step; DDP only shares them before the next forward."""
    config = _config(worlds, tmp_path, "image", "method=source_only")
    options = ["method=source_only", "model.encoder.norm=batch", "model.head.norm=batch"]
    first, second = _on_two_processes(tmp_path, "image", *options)
    assert _differences(first["states"], second["states"]) == []
    saved = checkpoint.read(checkpoint.latest(Path(config.run) / "double"))["student"]
    assert any("running_mean" in name for name in saved)
    assert all(torch.equal(first["states"][f"student/{name}"], value) for name, value in saved.items())


def test_imports_point_one_way():
    """In a fresh process: the image core imports neither video nor tools, the engine no method."""
    code = """
import importlib, pkgutil, sys, blda
names = [m.name for m in pkgutil.walk_packages(blda.__path__, "blda.")]
for name in names: importlib.import_module(name)
assert not [m for m in sys.modules if m.split(".")[0] in ("blda_video", "tools", "command")], "video or tools"
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = """
import importlib, pkgutil, sys, blda.engine
for m in pkgutil.iter_modules(blda.engine.__path__, "blda.engine."): importlib.import_module(m.name)
found = sorted({"blda.selftrain", "blda.supervised", "blda.losses", "blda.build"} & set(sys.modules))
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_batches_move_to_a_device_with_their_type(worlds, tmp_path):
    trainer = _trainer(_config(worlds, tmp_path, "video"), "types")
    source, target = next(trainer.batches(0))
    assert type(source) is Sample
    assert target.label is None
    assert type(target.to("cpu")) is type(target)
    assert target.offset == (-1, 1)
    assert target.context.shape[:2] == (2, 2)
