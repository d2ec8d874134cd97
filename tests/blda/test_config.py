from dataclasses import replace
from pathlib import Path

import pytest

from blda import configfile
from blda.classify import ClassifyConfig
from blda.config import Config
from blda_video.config import VideoConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


SMALL = """
run: runs/x
model: {encoder: {name: small}, head: {name: daformer, embed: 32}}
source: {reader: {name: gta5, root: a}}
target: {reader: {name: cityscapes, root: b}}
evaluation: {reader: {name: cityscapes, root: b, split: val}}
"""


def test_overrides_bases_and_file_are_applied_in_order(tmp_path):
    _write(tmp_path / "base.yaml", SMALL + "optimizer: {lr: 1e-3, warmup: 7}\n")
    path = _write(tmp_path / "run.yaml", "base: base.yaml\noptimizer: {lr: 2e-3}\nsource: {crop: [64, 128]}\n")
    config = configfile.load(path, Config, ["training.steps=5", "blda.tau=1", "source.reader.root=c"])
    assert (config.optimizer.lr, config.optimizer.warmup) == (2e-3, 7)
    assert (config.training.steps, config.blda.tau, config.source.crop) == (5, 1.0, (64, 128))
    assert config.source.reader == {"name": "gta5", "root": "c"}


def test_another_part_does_not_inherit_the_keywords_of_the_old_one(tmp_path):
    _write(tmp_path / "base.yaml", SMALL)
    path = _write(tmp_path / "run.yaml", "base: base.yaml\nmodel: {head: {name: deeplab_v2}, encoder: {norm: group}}\n")
    config = configfile.load(path, Config)
    assert config.model.head == {"name": "deeplab_v2"}
    assert config.model.encoder == {"name": "small", "norm": "group"}


def test_an_override_by_another_part_replaces_the_old_one_whole(tmp_path):
    path = _write(tmp_path / "run.yaml", SMALL)
    config = configfile.load(path, Config, ["model.head={name: deeplab_v2}", "source.reader={root: c}"])
    assert configfile.load(path, Config, ["model.head={name: daformer}"]).model.head == {"name": "daformer"}
    assert config.model.head == {"name": "deeplab_v2"}
    assert config.source.reader == {"name": "gta5", "root": "c"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rat=1", "unknown key 'learning_rat'"),
        ("traning.steps=1", "did you mean 'training'"),
        ("training.steps=many", "training: steps must be int, not 'many'"),
        ("log.bar=1", "log: bar must be bool"),
        ("source.crop=[1]", "crop must have 2 values"),
        ("source.crop=3", "crop must be a list"),
        ("model=3", "model must be a mapping"),
        ("training.steps", "not of the form key=value"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_a_mistake_is_named(tmp_path, override, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("[", r"\[")):
        configfile.load(_write(tmp_path / "run.yaml", SMALL), Config, [override])


def test_a_missing_key_or_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing evaluation, model, source, target"):
        configfile.load(_write(tmp_path / "run.yaml", "run: x\n"), Config)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        configfile.load(tmp_path / "nowhere.yaml", Config)


def test_saved_config_loads_equal(tmp_path):
    config = configfile.load(_write(tmp_path / "run.yaml", SMALL + "offsets: [-2, 1]\n"), VideoConfig)
    configfile.save(config, tmp_path / "saved" / "config.yaml")
    assert configfile.load(tmp_path / "saved" / "config.yaml", VideoConfig) == config
    assert replace(config, seed=1) != config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    kinds = [kind for kind in (Config, ClassifyConfig, VideoConfig) if _loads(path, kind)]
    assert kinds
    assert (kinds == [ClassifyConfig]) == configfile.has_key(path, "classification")
    assert configfile.load(path, kinds[0]).run.startswith("runs/")


def _loads(path: Path, kind: type[Config]) -> bool:
    try:
        return configfile.load(path, kind) is not None
    except ValueError:
        return False
