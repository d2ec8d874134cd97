import pytest
import torch

from blda_video.build import ESTIMATORS, estimator_of
from blda_video.flow.dis import DIS
from blda_video.flow.estimator_names import component_of, described
from blda_video.flow.raft import RAFT


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        ("dis-medium", "dis-medium"),
        ("dis", "dis-medium"),
        ({"name": "dis", "preset": "fast"}, "dis-fast"),
        ({"name": "dis", "finest": 0}, "dis-medium finest=0"),
        ("raft", "raft-small"),
        ("raft-large", "raft-large"),
        ({"name": "raft", "weights": "default", "iterations": 12}, "raft-small"),
        (
            {"name": "raft", "weights": "/home/me/raft_small.pth", "iterations": 24},
            "raft-small iterations=24 weights=raft_small.pth",
        ),
        ({"name": "mmflow", "config": "mine/pwcnet.py", "checkpoint": "a/b.pth"}, "mmflow-pwcnet.py checkpoint=b.pth"),
        ("exact", "exact"),
    ],
)
def test_a_store_notes_estimator_and_options(estimator, text):
    assert described(estimator, ESTIMATORS) == text


def test_the_short_name_gives_the_first_keyword():
    assert component_of("dis-fast", ESTIMATORS) == {"name": "dis", "preset": "fast"}
    assert (
        component_of("raft-large", ESTIMATORS)
        == component_of("raft_large", ESTIMATORS)
        == {"name": "raft", "size": "large"}
    )
    assert component_of("mmflow-raft_8x2", ESTIMATORS) == {"name": "mmflow", "config": "raft_8x2"}


def test_estimators_by_name_and_by_part(tmp_path):
    assert estimator_of("flow", "dis-fast").preset == "fast"
    assert isinstance(estimator_of("flow", {"name": "dis"}), DIS)
    torch.save(RAFT.__new__(RAFT).__dict__, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty\.pth"):
        estimator_of("flow", {"name": "raft", "weights": tmp_path / "empty.pth"})


@pytest.mark.parametrize(
    ("estimator", "fault"),
    [
        (None, "flow.estimator is missing; name what computes flow"),
        ("exact", "flow.estimator: unknown name 'exact'; known: dis, mmflow, raft"),
        (
            {"preset": "fast"},
            r"flow.estimator: {'preset': 'fast'} names no part; write {name: WHICH, ...} with one of dis,",
        ),
        ("dis-slow", "unknown DIS preset 'slow'"),
        ({"name": "raft", "iteration": 3}, "did you mean 'iterations'"),
        ({"name": "mmflow", "config": "pwcnet"}, "mmflow needs 'checkpoint'"),
    ],
)
def test_wrong_estimators_are_named(estimator, fault):
    with pytest.raises(ValueError, match=fault):
        estimator_of("flow.estimator", estimator)


def test_a_store_is_not_opened_for_an_estimator_without_a_name():
    with pytest.raises(ValueError, match=r"flow.estimator: {'preset': 'fast'} names no part"):
        described({"preset": "fast"}, ESTIMATORS)
