"""Lists of data sets in a config: keys of members, keys of all, shares, overrides by number, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from blda.build.run_folder import experiment
from blda.config import loading
from blda.config.schema import Config

TEXT = """
run: x
model: {encoder: {name: small}, head: {name: daformer}}
target: {reader: {name: folder, images: t}, crop: [8, 8]}
evaluation: {reader: {name: folder, images: e}}
"""
FIRST = "reader: {name: gta5, root: data/a}, resize: [20, 40], crop: [8, 8], rare: {}"
SINGLE = f"source: {{{FIRST}}}"
LIST = f"source: [{{{FIRST}}}, {{reader: {{name: synthia, root: data/b}}, resize: [30, 60], rename: {{a: b}}}}]"


def load(folder: Path, source: str, *overrides: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(TEXT + source, encoding="utf-8")
    return loading.load(path, Config, overrides)


def test_one_member_is_the_same_as_no_list(tmp_path) -> None:
    single, alone = load(tmp_path, SINGLE), load(tmp_path, f"source: [{{{FIRST}, share: 1}}]")
    assert single == alone and experiment(single) == experiment(alone)
    loading.save(alone, tmp_path / "saved.yaml")
    assert "  share" not in (tmp_path / "saved.yaml").read_text()
    assert loading.load(tmp_path / "saved.yaml", Config) == single
    assert single.source.members == (single.source,) and single.source.shares is None


def test_members_have_keys_of_their_own_and_share_those_of_the_training_step(tmp_path) -> None:
    config = load(tmp_path, LIST)
    first, second = config.source.members
    assert (first.reader["name"], second.reader["name"]) == ("gta5", "synthia")
    assert (first.resize, second.resize) == ((20, 40), (30, 60))
    assert (first.rename, second.rename) == ({}, {"a": "b"})
    assert first.crop == second.crop == (8, 8) and first.rare == second.rare
    loading.save(config, tmp_path / "saved.yaml")
    assert loading.load(tmp_path / "saved.yaml", Config) == config
    assert experiment(config) != experiment(load(tmp_path, SINGLE))


def test_shares_are_exact(tmp_path) -> None:
    config = load(tmp_path, LIST, "source.0.share=0.3", "source.1.share=0.7")
    assert config.source.shares == (Fraction(3, 10), Fraction(7, 10))
    assert load(tmp_path, LIST).source.shares is None
    rounded = load(tmp_path, LIST, "source.0.share=0.3333", "source.1.share=0.667")
    assert sum(rounded.source.shares) == 1


def test_overrides_reach_one_member_by_number_or_all(tmp_path) -> None:
    config = load(
        tmp_path, LIST, "source.1.reader.root=/disk", "source.rare=null", "source.crop=[6,6]", "target.crop=[6,6]"
    )
    assert [each.reader["root"] for each in config.source.members] == ["data/a", "/disk"]
    assert config.source.rare is None and {each.crop for each in config.source.members} == {(6, 6)}
    variant = tmp_path / "variant.yaml"
    variant.write_text("source: {max_share: 0.5}\ntarget: {crop: [8, 8]}\n", encoding="utf-8")
    assert {each.max_share for each in load(tmp_path, LIST, str(variant)).source.members} == {0.5}


def test_a_base_holds_for_all_members(tmp_path) -> None:
    (tmp_path / "base.yaml").write_text(TEXT + "source: {keep_ratio: true, crop: [8, 8]}", encoding="utf-8")
    path = tmp_path / "above.yaml"
    path.write_text(
        "base: base.yaml\nsource: [{reader: {name: a}}, {reader: {name: b}, keep_ratio: false}]\n", encoding="utf-8"
    )
    first, second = loading.load(path, Config).source.members
    assert (first.keep_ratio, second.keep_ratio) == (True, False) and first.crop == second.crop == (8, 8)


def test_resolution_multiplies_the_lengths_of_all(tmp_path) -> None:
    more = ("resolution=2", "target.resize=[10,20]", "evaluation.size=[10,20]")
    first, second = load(tmp_path, LIST, *more).source.members
    assert (first.resize, second.resize, second.crop) == ((40, 80), (60, 120), (16, 16))
    with pytest.raises(ValueError, match=r"source\.resize is null"):
        load(tmp_path, LIST, *more, "source.1.resize=null")


def test_all_places_move_with_data_root(tmp_path) -> None:
    assert [each.get("root") for each in load(tmp_path, LIST).places()][:2] == ["data/a", "data/b"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("source.0.share=0.3",), "share is given for 1 of 2 members; give it for all, or for none"),
        (("source.0.share=0.3", "source.1.share=0.3"), "the shares sum to 0.6, not 1; .* give 0.5, 0.5"),
        (("source.0.share=1.5", "source.1.share=0.3"), r"source\.0: share is 1\.5; it must be above 0 and at most 1"),
        (("source.1.crop=[4,4]",), "source: member 1 has another crop than member 0; give crop once"),
        (("source.1.rare=null",), "member 1 has another rare than member 0"),
        (("source.1.shar=0.3",), r"source\.1: unknown key 'shar'; did you mean 'share'"),
        (("source.2.share=0.3",), r"source\.2: source has 2 items, numbered from 0"),
        (("source.1=3",), r"source\.1 must be a mapping, not 3"),
        (("source=[]",), "source must be a mapping or a list of mappings"),
    ],
)
def test_what_does_not_fit_together_is_one_line_with_the_fix(tmp_path, overrides, message) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load(tmp_path, LIST, *overrides)
    assert "\n" not in str(raised.value)


def test_one_share_alone_must_be_all(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"the shares sum to 0\.3, not 1"):
        load(tmp_path, f"source: [{{{FIRST}, share: 0.3}}]")
