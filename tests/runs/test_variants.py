"""DACS, DAFormer, HRDA, MIC, a ViT and a distillation, with and without BLDA: they train, score, resume, and split."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import yaml

import tiny
import trained
from blda.build.image_run import image_run
from blda.build.training_run import CONFIG
from blda.config import loading
from blda.config.data_schema import Component
from blda.config.schema import Config
from blda.engine import checkpoint, runtime
from blda_video.config import VideoConfig
from blda_video.street_world import rehearsal
from blda_video.street_world.miniature import copies

CONFIGS = Path(__file__).parents[2] / "configs"
VARIANTS = sorted(path.stem for path in (CONFIGS / "variants").glob("*.yaml"))
IMAGES, VIDEO = ("gta2cs", "synthia2cs"), ("viper2csseq", "viper2bdd", "synthiaseq2csseq")
TRAINED = [name for name in VARIANTS if name != "vfm_large"]
"""All but what is another variant with a larger network: networks are replaced by small ones here."""
PAIR = ("gta2cs", "viper2csseq")
CELLS = [
    *itertools.product(PAIR, TRAINED, ["blda"]),
    *itertools.product(PAIR, ["mic"], ["self_training"]),  # plain self-training is a part of the others
]
STEPS = 6
QUICK = [
    *("training.workers=0", "log={every: 1, pictures: 100, bar: false, trackers: []}", "evaluation.every=100"),
    *("optimizer={lr: 1e-3, warmup: 1}", "self_training={threshold: 0.06, momentum: 0.9}"),
]
NEAR = "feature_distance={strength: 0.1, min_ratio: 0.51, things: [road, building, sky, vegetation, car]}"
STILL = {
    "small": {"norm": "group"},
    "mit": {"drop_path": 0.0},
    "vit_pyramid": {},
    "deeplab_v2": {},
    "daformer": {"dropout": 0.0, "norm": "group"},
    "segformer": {"dropout": 0.0, "norm": "group"},
}
DLV2 = {"name": "deeplab_v2", "dilations": [6, 12]}
VIT = "model.encoder={name: vit_pyramid, model: test_vit, width: 16}"
PRIOR = "model.encoder={name: vit_pyramid, model: test_vit, width: 16, spatial_prior: true, blocks: [1, 2, 3, 5]}"
FROZEN = "foundation_distance={size: [32, 32], encoder: {name: vit_pyramid, model: test_vit, weights: %s}}"
"""The random ViT of the session that stands for DINOv2."""


def _kind(name: str) -> type[Config]:
    return Config if name in IMAGES else VideoConfig


def _load(name: str, variant: str, *overrides: str) -> Config:
    return loading.load(CONFIGS / f"{name}.yaml", _kind(name), [str(_variant(variant)), *overrides])


def _variant(name: str) -> Path:
    return CONFIGS / "variants" / f"{name}.yaml"


def test_every_benchmark_takes_every_variant_and_no_two_share_a_folder():
    pairs = list(itertools.product((*IMAGES, *VIDEO), VARIANTS))
    assert {"dacs", "daformer", "hrda", "mic", "dinov3", "vfm", "vfm_large", "distil"} <= set(VARIANTS)
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
    deeplab = _load("gta2cs", "hrda_deeplab")
    assert (deeplab.model.head, deeplab.model.hrda.attention, deeplab.model.hrda.stride) == (DLV2, DLV2, 8)
    assert hrda.model.hrda.stride == 4
    assert {_load(name, "mic").training.precision for name in (*IMAGES, *VIDEO)} == {"no"}
    vfm, large = _load("gta2cs", "vfm"), _load("gta2cs", "vfm_large")
    assert (vfm.source.crop, vfm.target.crop, vfm.evaluation.window) == ((1022, 1022),) * 3
    assert round(1022 / vfm.self_training.masked.block) == round(1120 / 64), "as many blocks as theirs"
    assert (vfm.optimizer.layer_decay, vfm.foundation_distance.strength) == (0.9, 0.1)
    # Their heads learn at 5e-5 (ViT-B) and 1e-5 (ViT-L) times the root of the batch of 8, their encoders at a tenth.
    assert vfm.optimizer.lr == pytest.approx(5e-6 * 8**0.5, rel=0.01)
    assert large.optimizer.lr == pytest.approx(1e-6 * 8**0.5, rel=0.01)
    assert large.foundation_distance == vfm.foundation_distance
    dacs = _load("gta2cs", "dacs")
    assert (dacs.feature_distance, dacs.source.rare, dacs.self_training.momentum) == (None, None, 0.99)


def test_what_is_saved_beside_a_run_is_the_whole_run(tmp_path):
    config = _load("gta2cs", "mic", "seed=3")
    loading.save(config, tmp_path / CONFIG)
    assert loading.load(tmp_path / CONFIG, Config) == config
    assert "base" not in yaml.safe_load((tmp_path / CONFIG).read_text())


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory) -> Path:
    """Copies of the data of two benchmarks."""
    root = tmp_path_factory.mktemp("variants")
    for name in PAIR:
        rehearsal.make(CONFIGS / f"{name}.yaml", _kind(name), root)
    return root


@pytest.fixture
def small(miniatures, mit_weights, tmp_path) -> Callable[..., Config]:
    """Makes the config of a benchmark with a variant, and overrides, on the miniatures."""
    return lambda *which: _small(miniatures, mit_weights, tmp_path, *which)


def _small(root: Path, weights: Path, folder: Path, name: str, variant: str, *overrides: str) -> Config:
    """A network of few weights; the feature distance asks for stored ones."""
    config = _load(name, variant)
    scale = rehearsal.SHORT / config.source.crop[0]
    _, readers = copies(config, root / name, lambda size: tuple(round(side * scale) for side in size))
    bases = [str(CONFIGS / f"{name}.yaml"), str(_variant(variant))]
    changes = rehearsal.changes(config, root / name, scale, readers)
    (folder / "small.yaml").write_text(yaml.safe_dump({"base": bases, **changes}))
    network = [f"model.encoder={{name: mit, variant: tiny, weights: {weights}}}", NEAR]
    if config.feature_distance is None:
        network = [VIT] if config.model.encoder["name"] == "vit_pyramid" else []
    if config.foundation_distance is not None:
        network = [PRIOR, FROZEN % _vit_weights(weights.parent)]
    if config.self_training.teacher is not None:
        taught = trained.checkpoint_in(folder / "teacher", "image", "classes=cityscapes19").parent
        network = [f"self_training.teacher.weights={taught}"]
    flow = [] if name in IMAGES else ["flow={name: dis, preset: ultrafast}"]
    overrides = [f"run={folder / variant}", *QUICK, *network, *flow, *overrides]
    return loading.load(folder / "small.yaml", _kind(name), overrides)


def _vit_weights(folder: Path) -> Path:
    """Random weights that stand for a foundation model's."""
    path = folder / "vit.pth"
    if not path.exists():
        torch.save(timm.create_model("test_vit").state_dict(), path)
    return path


@pytest.mark.parametrize(("name", "variant", "method"), CELLS)
def test_a_variant_trains_scores_and_resumes_bit_for_bit(small, name, variant, method):
    plan = f"training={{steps: {STEPS}, batch: 2, checkpoint_every: {STEPS // 2}}}"
    config = small(name, variant, f"method={method}", plan, "blda.warmup=2", "self_training.burn_in=1")
    whole = tiny.trainer(config, "whole")
    assert whole.fit()["mIoU"] >= 0
    logged = set().union(*tiny.lines(whole))
    assert ("train/loss/masked" in logged) == (config.self_training.masked is not None)
    assert ("train/feature_distance" in logged) == (config.feature_distance is not None)
    has_foundation = config.foundation_distance is not None
    assert ({"train/foundation_distance", "train/loss/foundation"} <= logged) == has_foundation
    assert ("foundation_head" in whole.state()) == has_foundation

    resumed = tiny.trainer(config, "resumed")
    resumed.folder.mkdir(exist_ok=True)
    shutil.copy(checkpoint.path_of(whole.folder, STEPS // 2), resumed.folder)
    resumed.resume()
    assert resumed.step == STEPS // 2
    resumed.fit()
    assert tiny.differences(tiny.states(whole), tiny.states(resumed)) == []


def _splittable(config: Config) -> Config:
    """The same where a batch is the sum of its halves: nothing is dropped at random, no norm is over the batch."""

    def changed(part: Component) -> Component:
        return {**part, **STILL[part["name"]]}

    model = config.model
    hrda = model.hrda and dataclasses.replace(model.hrda, attention=changed(model.hrda.attention))
    model = dataclasses.replace(model, encoder=changed(model.encoder), head=changed(model.head), hrda=hrda)
    return dataclasses.replace(config, model=model)


@pytest.fixture(scope="module")
def halved(miniatures, mit_weights, tmp_path_factory) -> dict[str, tuple[Config, list[dict]]]:
    """Every variant, and what each of two real processes ends with on half of its batches.

    In video mode, with BLDA: clips, propagated labels and pooled statistics come on top of all that images have.
    """
    folder = tmp_path_factory.mktemp("halved")
    plan = ("method=blda", "blda.min_pixels=64", "training={steps: 2, batch: 2}", "log.every=1")
    found = (_small(miniatures, mit_weights, folder, "viper2csseq", variant, *plan) for variant in TRAINED)
    configs = [tiny.moved(_splittable(config)) for config in found]
    ends = tiny.on_two_processes(configs, folder)
    return {name: (config, end) for name, config, end in zip(TRAINED, configs, ends, strict=True)}


@pytest.mark.parametrize("variant", TRAINED)
def test_a_variant_on_two_processes_equals_one_on_the_same_global_batch(halved, variant):
    config, ranks = halved[variant]
    single = tiny.with_sgd(tiny.trainer(config, "single"))
    scores = single.fit()
    assert tiny.differences(ranks[0]["states"], ranks[1]["states"]) == []
    tiny.assert_close(ranks[0]["states"], tiny.states(single))
    assert ranks[0]["scores"]["mIoU"] == pytest.approx(scores["mIoU"], abs=0.5)
    assert single.method.numbers()["pseudo_label/weight"] > 0.1
    measured = any("train/feature_distance" in line for line in tiny.lines(single))
    assert measured == (config.feature_distance is not None)


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
def test_a_mistake_shows_before_the_first_step(small, override, message):
    config = small("gta2cs", "daformer", override)
    with pytest.raises(ValueError, match=message):
        image_run(config, runtime.start("no")).prepare(["source_only", "self_training"])


def test_the_pretrained_encoder_is_neither_learnt_nor_saved(small):
    trainer = tiny.trainer(small("gta2cs", "daformer", "method=self_training"), "run")
    fixed = trainer.method.criterion.encoder
    before = {name: value.clone() for name, value in fixed.state_dict().items()}
    trainer.fit(until=2)
    assert all(torch.equal(value, fixed.state_dict()[name]) for name, value in before.items())
    assert set(trainer.state()) == {"trainer", "student", "teacher", "optimizer"}
    assert not any(name.startswith("segmenter.") for name in trainer.state()["student"].state_dict())
    own = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not own & {id(parameter) for parameter in fixed.parameters()}
