import typing
from dataclasses import is_dataclass, replace
from pathlib import Path

import pytest

from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.config.resolution import AREAS, LENGTHS
from blda.config.schema import Config
from blda_video.config import VideoConfig

CONFIGS = Path(__file__).parents[3] / "configs"


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
    path = _write(
        tmp_path / "run.yaml",
        "base: base.yaml\noptimizer: {lr: 2e-3}\nsource: {crop: [64, 128]}\nmethod: source_only\n",
    )
    config = loading.load(path, Config, ["training.steps=5", "blda.tau=1", "source.reader.root=c"])
    assert (config.optimizer.lr, config.optimizer.warmup) == (2e-3, 7)
    assert (config.training.steps, config.blda.tau, config.source.crop) == (5, 1.0, (64, 128))
    assert config.source.reader == {"name": "gta5", "root": "c"}


def test_another_part_does_not_inherit_the_keywords_of_the_old_one(tmp_path):
    _write(tmp_path / "base.yaml", SMALL)
    path = _write(tmp_path / "run.yaml", "base: base.yaml\nmodel: {head: {name: deeplab_v2}, encoder: {norm: group}}\n")
    config = loading.load(path, Config)
    assert config.model.head == {"name": "deeplab_v2"}
    assert config.model.encoder == {"name": "small", "norm": "group"}


def test_an_override_by_another_part_replaces_the_old_one_whole(tmp_path):
    path = _write(tmp_path / "run.yaml", SMALL)
    config = loading.load(path, Config, ["model.head={name: deeplab_v2}", "source.reader={root: c}"])
    assert loading.load(path, Config, ["model.head={name: daformer}"]).model.head == {"name": "daformer"}
    assert config.model.head == {"name": "deeplab_v2"}
    assert config.source.reader == {"name": "gta5", "root": "c"}


def test_ids_and_renamed_classes_are_replaced_whole(tmp_path):
    """Merged, ids of another data set would stay, and name classes that this one lacks."""
    text = SMALL.replace("{name: gta5, root: a}", "{name: folder, images: a, ids: {0: road, 1: car, 7: sky}}")
    path = _write(tmp_path / "run.yaml", text.replace("7: sky}}}", "7: sky}}, rename: {car: vehicle}, max_share: 0.5}"))
    variant = _write(tmp_path / "mine.yaml", "source: {reader: {ids: {3: tree}}, rename: {tree: plant}}\n")
    given = ["source.reader.ids={3: tree}", "source.rename={tree: plant}"]
    for overrides in (given, [str(variant)], ["source={reader: {ids: {3: tree}}, rename: {tree: plant}}"]):
        source = loading.load(path, Config, overrides).source
        assert source.reader == {"name": "folder", "images": "a", "ids": {3: "tree"}}
        assert source.rename == {"tree": "plant"}
        assert source.max_share == 0.5
    single = loading.load(path, Config, ["source.reader.ids.7=tree", "source.reader.ids.9=bus"]).source.reader["ids"]
    assert single == {0: "road", 1: "car", 7: "tree", 9: "bus"}
    assert loading.load(path, Config, ["source.reader.ids={}"]).source.reader["ids"] == {}


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
        ("training.steps", "neither key=value nor a config file"),
        ("seed=[1", "not valid YAML"),
        ("training.precision=no", "put it in quotes"),
        ("run=''", "run is empty"),
        ("training.precision=fp32", 'use "no"'),
    ],
)
def test_a_mistake_is_named(tmp_path, override, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("[", r"\[")):
        loading.load(_write(tmp_path / "run.yaml", SMALL), Config, [override])


def test_a_missing_key_or_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing evaluation, model, source, target"):
        loading.load(_write(tmp_path / "run.yaml", "run: x\n"), Config)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        loading.load(tmp_path / "nowhere.yaml", Config)


def test_saved_config_loads_equal(tmp_path):
    config = loading.load(_write(tmp_path / "run.yaml", SMALL + "offsets: [-2, 1]\n"), VideoConfig)
    loading.save(config, tmp_path / "saved" / "config.yaml")
    assert loading.load(tmp_path / "saved" / "config.yaml", VideoConfig) == config
    assert replace(config, seed=1) != config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    kinds = [kind for kind in (Config, ClassifyConfig, VideoConfig) if _loads(path, kind)]
    assert kinds
    assert (kinds == [ClassifyConfig]) == ("classification" in loading.tree_of(path))
    assert loading.load(path, kinds[0]).run.startswith("runs/")


def _loads(path: Path, kind: type[Config]) -> bool:
    try:
        return loading.load(path, kind) is not None
    except ValueError:
        return False


def test_files_on_top_of_a_config_win_from_left_to_right(tmp_path):
    path = _write(tmp_path / "run.yaml", SMALL)
    _write(tmp_path / "below.yaml", "run+: -a\nseed: 1\n")
    variant = _write(tmp_path / "variant.yaml", "base: below.yaml\nrun+: -b\nmodel: {head: {name: deeplab_v2}}\n")
    config = loading.load(path, Config, ["seed=3", str(variant), "optimizer.warmup=5"])
    assert (config.run, config.seed, config.optimizer.warmup) == ("runs/x-a-b", 1, 5)
    assert config.model.head == {"name": "deeplab_v2"}
    assert loading.load(path, Config, [str(variant), "run=here", "run+=-now"]).run == "here-now"
    with pytest.raises(ValueError, match=r"unknown key 'sed\+'; did you mean 'seed'"):
        loading.load(path, Config, ["sed+=1"])


SIZES = """
source: {resize: [72, 128], crop: [50, 51], rare: {min_crop_ratio: 0.5}}
target: {resize: [51, 102], crop: [51, 51]}
evaluation: {size: [51, 102], window: [50, 50], stride: [25, 25]}
self_training: {ignore_top: 3, ignore_bottom: 0, margins: [1, 2, 0, 4], masked: {block: 32}}
"""


def test_resolution_multiplies_every_length_once(tmp_path):
    path = _write(tmp_path / "run.yaml", "base: small.yaml\nmethod: source_only\n" + SIZES)
    _write(tmp_path / "small.yaml", SMALL)
    config = loading.load(path, Config, ["resolution=1.5"])
    assert (config.source.resize, config.source.crop, config.target.resize) == ((108, 192), (75, 76), (76, 153))
    assert config.source.rare.min_crop_ratio == pytest.approx(0.5 * 2.25)
    assert (config.evaluation.size, config.evaluation.window, config.evaluation.stride) == (
        (76, 153),
        (75, 75),
        (38, 38),
    )
    settings = config.self_training
    assert (settings.ignore_top, settings.ignore_bottom, settings.masked.block) == (4, 0, 48)
    assert settings.margins == (2, 3, 0, 6)
    assert config.resolution == 1
    loading.save(config, tmp_path / "saved.yaml")
    assert loading.load(tmp_path / "saved.yaml", Config) == config
    assert loading.load(path, Config).source.crop == (50, 51)
    for override, message in (("target.resize=null", "target.resize is null"), ("resolution=0", "must be above 0")):
        with pytest.raises(ValueError, match=message):
            loading.load(path, Config, ["resolution=2", override])


def test_every_length_of_a_resolution_is_a_key_of_a_config():
    """Renaming a key must not silently take it out of what `resolution` multiplies."""
    for path in (*LENGTHS, *AREAS):
        kind = ClassifyConfig
        for name in path.split("."):
            hints = typing.get_type_hints(kind)
            assert name in hints, path
            options = [option for option in (hints[name], *typing.get_args(hints[name])) if is_dataclass(option)]
            kind = options[0] if options else kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", r"the key 'seed' stands twice.*line [0-9]"),
        ("training: {steps: 1, batch: 2, steps: 3}\n", "the key 'steps' stands twice"),
        ("classes: " + "[" * 5000, "not valid YAML"),
    ],
)
def test_keys_that_stand_twice_and_nests_without_end_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"a\.yaml.*{message}"):
        loading.load(_write(tmp_path / "a.yaml", SMALL + text), Config)


def test_a_key_may_replace_one_of_a_merged_mapping(tmp_path):
    text = SMALL.replace("{encoder", "&net {encoder") + "training: &same {steps: 1, batch: 2}\n"
    text += "classes: {<<: *same, batch: 3}\n"
    assert loading.load(_write(tmp_path / "a.yaml", text), Config).classes == {"steps": 1, "batch": 3}
