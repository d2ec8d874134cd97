"""blda train-motion, and runs with what it trains: what flow alone tells, exact resume, two processes, mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from blda.build.reader_factory import class_names
from blda.engine import runtime
from blda_video.clips.readers.viper_sequence import ViperSequence
from blda_video.commands import train_motion
from blda_video.config import WorldSpec
from blda_video.jobs import motion_training
from blda_video.propagation.motion_network import MotionNetwork
from blda_video.street_world.world_writer import make


@pytest.fixture(scope="module")
def flowing(tmp_path_factory) -> Path:
    """Worlds whose source comes with exact flow."""
    root = tmp_path_factory.mktemp("flowing")
    tiny.make_worlds(root)
    make(
        WorldSpec(root / "moving", "viper", "source", "train", 4, 6, tiny.SIZE, seed=4, flow=True),
        progress=False,
    )
    return root


def _given(flowing: Path, tmp_path: Path, **motion: object) -> list[str]:
    settings = {"weights": str(tmp_path / "motion.pt"), "steps": 4, **motion}
    pairs = ", ".join(f"{key}: {value}" for key, value in settings.items())
    return [f"run={tmp_path / 'run'}", *tiny.roots(flowing), f"motion={{{pairs}}}"]


CONFIG = str(tiny.TESTS / "tiny_video.yaml")


def test_flow_alone_tells_more_than_the_commonest_class(flowing, tmp_path):
    exact = "{name: store, root: " + str(flowing / "moving" / "flow") + "}"
    given = [*_given(flowing, tmp_path, steps=150, flow=exact), f"source.reader.root={flowing / 'moving'}"]
    done = motion_training.train_motion(CONFIG, given)
    assert done.accuracy > done.commonest + 10
    network = MotionNetwork.load(done.path, class_names(tiny.load(flowing, tmp_path, "video")))
    assert network.offsets == (-1, 1)
    assert network.count.max() / network.count.sum() == pytest.approx(done.commonest / 100, abs=0.1)


def test_the_same_command_gives_the_same_network(flowing, tmp_path, capsys):
    for name in "ab":
        train_motion.main([CONFIG, *_given(flowing, tmp_path / name)])
        assert f"{tmp_path / name / 'motion.pt'}: " in capsys.readouterr().err
    first, second = (torch.load(tmp_path / name / "motion.pt", weights_only=True)["weights"] for name in "ab")
    assert tiny.differences(first, second) == []


def test_a_run_with_motion_is_another_run_and_resumes_bit_for_bit(flowing, tmp_path):
    motion_training.train_motion(CONFIG, _given(flowing, tmp_path))
    config = tiny.load(flowing, tmp_path, "video", f"motion={{weights: {tmp_path / 'motion.pt'}, power: 2}}")
    whole, plain = tiny.trainer(config, "whole"), tiny.trainer(replace(config, motion=None), "plain")
    whole.fit()
    plain.fit()
    assert tiny.differences(tiny.states(whole), tiny.states(tiny.resumed(config))) == []
    assert tiny.differences(tiny.states(whole), tiny.states(plain))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["motion=null"], r"the config has no motion to train; add motion=\{weights: runs/NAME/motion\.pt\}"),
        (
            ["offsets=[]", "consistency=[]"],
            r"offsets is empty, so there is no flow to learn from; set offsets=\[-1, 1\]",
        ),
        (["motion.power=-1"], r"motion: power is -1\.0; it must be at least 0"),
        (["motion.steps=0"], r"motion: steps is 0; it must be at least 1"),
    ],
)
def test_mistakes_are_one_line_with_the_mend(flowing, tmp_path, overrides, message):
    with pytest.raises((ValueError, OSError), match=message):
        motion_training.train_motion(CONFIG, [*_given(flowing, tmp_path), *overrides])
    assert not (tmp_path / "motion.pt").exists()


def test_a_source_of_images_alone_is_refused(flowing, tmp_path, monkeypatch):
    monkeypatch.delattr(ViperSequence, "neighbour")
    with pytest.raises(ValueError, match=r"source is not a video; motion is learnt from labelled videos"):
        motion_training.train_motion(CONFIG, _given(flowing, tmp_path))


def test_a_missing_network_stops_a_run_before_its_first_step(flowing, tmp_path):
    config = tiny.load(flowing, tmp_path, "video", f"motion={{weights: {tmp_path / 'none.pt'}}}")
    run = tiny.compose(config, runtime.start("no"))
    with pytest.raises(FileNotFoundError, match=r"none\.pt; make it with blda train-motion"):
        run.prepare(["blda"])
