"""DACS, DAFormer, HRDA, MIC and a ViT, with and without BLDA: they compose, train, score and resume."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from blda import configfile
from blda.build import Build
from blda.config import Config
from blda.engine import checkpoint, runtime
from blda.engine.trainer import Trainer
from blda.models import mit
from blda.run import CONFIG
from blda_video import rehearsal
from blda_video.build import VideoBuild
from blda_video.config import VideoConfig
from blda_video.data.miniature import copies

CONFIGS = Path(__file__).parents[1] / "configs"
VARIANTS = sorted(path.stem for path in (CONFIGS / "variants").glob("*.yaml"))
IMAGES, VIDEO = ("gta2cs", "synthia2cs"), ("viper2csseq", "viper2bdd", "synthiaseq2csseq")
CELLS = [(*cell, 4) for cell in itertools.product(("gta2cs", "viper2csseq"), VARIANTS, ("self_training", "blda"))]
LONG = [("gta2cs", name, "blda", 20) for name in ("dacs", "daformer", "mic")]
LONG += [("viper2csseq", name, "self_training", 20) for name in ("dinov3", "hrda")]
CELLS = [cell for cell in CELLS if (*cell[:3], 20) not in LONG] + LONG
QUICK = [
    *("training.workers=0", "log={every: 2, pictures: 100, bar: false}", "evaluation.every=100"),
    *("optimizer={lr: 1e-3, warmup: 1}", "self_training={threshold: 0.06, momentum: 0.9}"),
]
TINY = ((8, 16, 20, 32), (1, 1, 1, 1))
NEAR = "feature_distance={strength: 0.1, min_ratio: 0.51, things: [road, building, sky, vegetation, car]}"
VIT = "model.encoder={name: vit_pyramid, model: test_vit, width: 16}"


def _kind(name: str) -> type[Config]:
    return Config if name in IMAGES else VideoConfig


def _load(name: str, variant: str, *overrides: str) -> Config:
    return configfile.load(CONFIGS / f"{name}.yaml", _kind(name), [str(_variant(variant)), *overrides])


def _variant(name: str) -> Path:
    return CONFIGS / "variants" / f"{name}.yaml"


def test_every_benchmark_takes_every_variant_and_no_two_share_a_folder():
    pairs = list(itertools.product((*IMAGES, *VIDEO), VARIANTS))
    assert {"dacs", "daformer", "hrda", "mic", "dinov3"} <= set(VARIANTS)
    assert [_load(*pair).run for pair in pairs] == [f"runs/{name}-{variant}" for name, variant in pairs]


def test_variants_say_what_is_published():
    daformer, hrda, mic = (_load("gta2cs", name) for name in ("daformer", "hrda", "mic"))
    assert (daformer.source.resize, daformer.source.crop) == ((720, 1280), (512, 512))
    assert (daformer.self_training.ignore_top, daformer.self_training.ignore_bottom) == (15, 120)
    assert (daformer.feature_distance.strength, daformer.feature_distance.min_ratio) == (0.005, 0.75)
    assert (hrda.source.resize, hrda.source.crop) == ((1440, 2560), (1024, 1024))
    assert (hrda.target.resize, hrda.target.crop) == ((1024, 2048), (1024, 1024))
    assert (hrda.evaluation.size, hrda.evaluation.window) == ((1024, 2048), (1024, 1024))
    assert hrda.evaluation.stride == (512, 512)
    assert hrda.source.rare.min_crop_ratio == 2.0
    assert (hrda.self_training.margins, hrda.self_training.ignore_bottom) == ((30, 240, 30, 30), 0)
    assert (mic.self_training.masked.block, mic.self_training.masked.ratio) == (64, 0.7)
    assert dataclasses.replace(mic, run=hrda.run, self_training=hrda.self_training) == hrda
    dacs = _load("gta2cs", "dacs")
    assert (dacs.feature_distance, dacs.source.rare, dacs.self_training.momentum) == (None, None, 0.99)


def test_what_is_saved_beside_a_run_is_the_whole_run(tmp_path):
    config = _load("gta2cs", "mic", "seed=3")
    configfile.save(config, tmp_path / CONFIG)
    assert configfile.load(tmp_path / CONFIG, Config) == config
    assert "base" not in yaml.safe_load((tmp_path / CONFIG).read_text())


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory) -> Iterator[Path]:
    """Copies of the data of two benchmarks, and random weights that stand for ImageNet's."""
    root = tmp_path_factory.mktemp("variants")
    for name in ("gta2cs", "viper2csseq"):
        rehearsal.make(CONFIGS / f"{name}.yaml", _kind(name), root)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mit.VARIANTS, "tiny", TINY)
        torch.save(mit.MiT("tiny").state_dict(), root / "tiny.pth")
        yield root


def _small(root: Path, name: str, variant: str, run: Path, *overrides: str) -> Config:
    """A variant on the miniatures, with a network of few weights; the feature distance asks for stored ones."""
    config = _load(name, variant)
    scale = rehearsal.SHORT / config.source.crop[0]
    _, readers = copies(config, root / name, lambda size: tuple(round(side * scale) for side in size))
    bases = [str(CONFIGS / f"{name}.yaml"), str(_variant(variant))]
    (run / "small.yaml").write_text(
        yaml.safe_dump({"base": bases, **rehearsal.changes(config, root / name, scale, readers)})
    )
    network = [f"model.encoder={{name: mit, variant: tiny, weights: {root / 'tiny.pth'}}}", NEAR]
    if config.feature_distance is None:
        network = [VIT] if config.model.encoder["name"] == "vit_pyramid" else []
    flow = [] if name in IMAGES else ["flow={name: dis, preset: ultrafast}"]
    return configfile.load(run / "small.yaml", _kind(name), [f"run={run / 'run'}", *QUICK, *network, *flow, *overrides])


def _trainer(config: Config, folder: str) -> Trainer:
    build = VideoBuild if isinstance(config, VideoConfig) else Build
    return build(config, runtime.start("no")).trainer(config.method, Path(config.run) / folder)


def _tensors(value: object, path: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {path: value.clone()}
    items = value.items() if isinstance(value, dict) else ()
    return {name: tensor for key, item in items for name, tensor in _tensors(item, f"{path}/{key}").items()}


def _state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return _tensors({name: part.state_dict() for name, part in trainer.state().items()})


@pytest.mark.parametrize(("name", "variant", "method", "steps"), CELLS)
def test_a_variant_trains_scores_and_resumes_bit_for_bit(miniatures, tmp_path, name, variant, method, steps):
    plan = f"training={{steps: {steps}, checkpoint_every: {steps // 2}}}"
    config = _small(miniatures, name, variant, tmp_path, f"method={method}", plan)
    whole = _trainer(config, "whole")
    assert whole.fit()["mIoU"] >= 0
    lines = [json.loads(line) for line in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    logged = set().union(*lines)
    assert ("train/loss/masked" in logged) == (config.self_training.masked is not None)
    assert ("train/feature_distance" in logged) == (config.feature_distance is not None)

    resumed = _trainer(config, "resumed")
    resumed.folder.mkdir(exist_ok=True)
    shutil.copy(checkpoint.path_of(whole.folder, steps // 2), resumed.folder)
    resumed.resume()
    assert resumed.step == steps // 2
    resumed.fit()
    states = _state(whole), _state(resumed)
    assert states[0].keys() == states[1].keys()
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.encoder={name: small}",
            "feature_distance is to pretrained features, but model.encoder starts at random",
        ),
        ("feature_distance.things=[car, lorry]", "feature_distance.things: no class 'lorry'"),
        ("self_training.margins=[40, 40, 0, 0]", "leave nothing of"),
    ],
)
def test_a_mistake_shows_before_the_first_step(miniatures, tmp_path, override, message):
    config = _small(miniatures, "gta2cs", "daformer", tmp_path, override)
    with pytest.raises(ValueError, match=message):
        Build(config, runtime.start("no")).prepare(["source_only", "self_training"])


def test_the_pretrained_encoder_is_neither_learnt_nor_saved(miniatures, tmp_path):
    trainer = _trainer(_small(miniatures, "gta2cs", "daformer", tmp_path, "method=self_training"), "run")
    fixed = trainer.method.criterion.encoder
    before = {name: value.clone() for name, value in fixed.state_dict().items()}
    trainer.fit(until=2)
    assert all(torch.equal(value, fixed.state_dict()[name]) for name, value in before.items())
    assert set(trainer.state()) == {"trainer", "student", "teacher", "optimizer"}
    assert not any(name.startswith("segmenter.") for name in trainer.state()["student"].state_dict())
    own = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not own & {id(parameter) for parameter in fixed.parameters()}
