"""`data_root` moves every path of data that begins with data/, and is refused where it would move nothing."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from blda.config import loading
from blda.config.data_root import located
from blda_video.config import VideoConfig
from blda_video.jobs import kinds

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def test_paths_below_data_move_and_others_stay():
    component = {
        "name": "folder",
        "images": "data/a/b",
        "labels": "/data/a",
        "files": ["data/x.txt", "database/x"],
        "n": 2,
    }
    moved = located(component, "/disk/sets")
    assert moved == {**component, "images": "/disk/sets/a/b", "files": ["/disk/sets/x.txt", "database/x"]}
    assert located(component, "data") == component
    assert located(PurePath("data/a"), "/d") == PurePath("/d/a")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_all_places_of_a_shipped_config_move(path):
    kind, _ = kinds.of_run(path)
    config = loading.load(path, kind, ["data_root=/disk"])
    assert "data/" not in str(located(config.places(), config.data_root)).replace("/disk/", "")
    assert isinstance(config, VideoConfig) == (path.stem in VIDEO)


VIDEO = {"all2csseq", "ablation", "demo", "synthiaseq2csseq", "viper2bdd", "viper2csseq", "world2camvid"}


def test_a_root_that_moves_nothing_is_refused():
    options = [f"{part}.reader={{name: folder, images: /a}}" for part in ("source", "target", "evaluation")]
    with pytest.raises(ValueError, match=r"data_root is '/disk'.* would move nothing"):
        loading.load(CONFIGS[0].with_name("gta2cs.yaml"), kinds.of_images(CONFIGS[0])[0], [*options, "data_root=/disk"])
