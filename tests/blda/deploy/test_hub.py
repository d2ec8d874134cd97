"""Saved networks and the hub: what a folder holds, and what is said when the hub gives no answer."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import errors
from safetensors.torch import load_file

import blda
import trained
from blda.build import saved_folder
from blda.config import loading
from blda.deploy import hub
from blda.deploy.trained_segmenter import TrainedSegmenter
from blda_video.config import VideoConfig
from fake_hub import FakeHub


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run, with scores."""
    folder = tmp_path_factory.mktemp("run")
    options = (
        "evaluation.window=[24,32]",
        "evaluation.flip=true",
        f"source.reader.root={folder / 'private' / 'viper'}",
    )
    trained.checkpoint_in(folder, "video", *options)
    scores = {"protocol": "all", "mIoU": 42.125, "mAcc": 50.5, "iou/road": 80.25, "iou/sky": None, "iou/car": 1.5}
    (folder / "result.json").write_text(json.dumps(scores))
    return folder


@pytest.fixture
def segmenter(run) -> TrainedSegmenter:
    return blda.load(run)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 51, 3), np.uint8)


class Answer:
    """Answer of a hub that refuses."""

    def __init__(self, status: int) -> None:
        self.status_code, self.headers, self.request = status, {}, None


def refusal(kind: str, status: int = 404) -> Exception:
    """An error of `huggingface_hub`, whose constructors differ between versions."""
    error = getattr(errors, kind).__new__(getattr(errors, kind))
    error.args = ("the hub's own words\nin two lines",)
    error.response = Answer(status)
    return error


def test_a_saved_network_predicts_as_before(run, segmenter, image, tmp_path):
    assert segmenter.save_pretrained(tmp_path / "net") == tmp_path / "net"
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
        "result.json",
    ]
    again = blda.load(tmp_path / "net")
    assert (again.classes, again.protocol, again.size) == (segmenter.classes, segmenter.protocol, segmenter.size)
    before, after = segmenter.predict(image), again.predict(image)
    assert np.array_equal(before.labels, after.labels)
    assert np.array_equal(before.probabilities, after.probabilities)
    assert again.origin.scores["mIoU"] == 42.125
    again.save_pretrained(tmp_path / "twice")
    for name in ("config.yaml", "README.md", "result.json"):
        assert (tmp_path / "twice" / name).read_text() == (tmp_path / "net" / name).read_text()
    state = load_file(tmp_path / "net" / "model.safetensors")
    assert state.keys() == segmenter.network.state_dict().keys()


def test_a_calibration_rides_along_until_it_is_left_out(run, image, tmp_path):
    plain, balanced = blda.load(run), blda.load(run, calibration=trained.calibration())
    balanced.save_pretrained(tmp_path)
    labels = [blda.load(tmp_path).predict(image).labels, blda.load(tmp_path, calibration=False).predict(image).labels]
    assert np.array_equal(labels[0], balanced.predict(image).labels)
    assert np.array_equal(labels[1], plain.predict(image).labels)
    assert not np.array_equal(*labels)
    assert "tau 1" in (tmp_path / "README.md").read_text()
    plain.save_pretrained(tmp_path)
    assert not (tmp_path / "calibration.pt").exists()
    assert np.array_equal(blda.load(tmp_path).predict(image).labels, labels[1])


def test_the_config_is_the_runs_without_private_paths(run, segmenter, tmp_path):
    segmenter.save_pretrained(tmp_path)
    saved = loading.load(tmp_path / "config.yaml", VideoConfig)
    own = loading.load(run / "config.yaml", VideoConfig)
    assert (saved.model, saved.evaluation.window, saved.training) == (own.model, own.evaluation.window, own.training)
    assert (saved.source.reader["root"], saved.run) == ("viper", run.name)
    assert str(run) not in (tmp_path / "config.yaml").read_text() + (tmp_path / "README.md").read_text()
    deep = {"a": [{"b": "/x/y"}, ("/p/q", 3)], "c": "x/y"}
    assert hub.portable(deep) == {"a": [{"b": "y"}, ["q", 3]], "c": "x/y"}


def test_the_model_card_says_classes_scores_and_the_command(segmenter, tmp_path):
    segmenter.save_pretrained(tmp_path / "a")
    card = (tmp_path / "a" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    head = yaml.safe_load(head)
    assert (head["library_name"], head["pipeline_tag"]) == ("blda", "image-segmentation")
    for text in ("| 0 | road |", "| 2 | car |", "| mIoU | 42.12 |", "| road | 80.25 |", "| sky | not seen |"):
        assert text in body
    assert "Protocol all, percent" in body
    assert "[24, 32]" in body
    assert "blda train config.yaml run=runs/blda" in body
    assert 'blda.load("USER/NAME")' in body
    segmenter.save_pretrained(tmp_path / "b", command="blda train viper2csseq mic")
    assert "```\nblda train viper2csseq mic\n```" in (tmp_path / "b" / "README.md").read_text()


def test_a_network_without_scores_has_a_card_that_says_so(run, tmp_path):
    for name in ("config.yaml", "step_000001.pt"):
        shutil.copy(run / name, tmp_path)
    blda.load(tmp_path).save_pretrained(tmp_path / "net")
    assert "None were recorded" in (tmp_path / "net" / "README.md").read_text()
    assert not (tmp_path / "net" / "result.json").exists()


def test_pushing_uploads_what_saving_writes(segmenter, tmp_path, monkeypatch):
    fake = FakeHub(tmp_path, monkeypatch)
    assert segmenter.push_to_hub("me/streets", private=True) == "https://hub/me/streets"
    assert fake.asked == [("create", "me/streets", True), ("upload", "me/streets")]
    assert 'blda.load("me/streets")' in (tmp_path / "me" / "streets" / "README.md").read_text()
    assert blda.load("me/streets").classes == segmenter.classes
    assert blda.load("me/streets@v1.0").classes == segmenter.classes
    assert fake.asked[2:] == [("download", "me/streets", None), ("download", "me/streets", "v1.0")]


REFUSALS = {
    "GatedRepoError": (403, "accept its terms"),
    "RepositoryNotFoundError": (404, "has no me/streets, or it is private"),
    "RevisionNotFoundError": (404, "no such revision"),
    "LocalTokenNotFoundError": (0, "hf auth login"),
    "HfHubHTTPError": (403, "refuses this access"),
    "LocalEntryNotFoundError": (0, "cannot be reached"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_the_hubs_refusals_are_one_line_with_the_fix(segmenter, monkeypatch, kind):
    status, message = REFUSALS[kind]

    def refuse(*_: object, **__: object) -> None:
        raise refusal(kind, status)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    for ask in (lambda: blda.load("me/streets"), lambda: segmenter.push_to_hub("me/streets")):
        with pytest.raises(FileNotFoundError, match=message) as raised:
            ask()
        assert "\n" not in str(raised.value)
        assert "me/streets" in str(raised.value)


def test_without_a_connection_the_fix_is_said(monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise refusal("LocalEntryNotFoundError") from OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(FileNotFoundError, match=r"no such file or folder, and the hub cannot be reached \(Name or"):
        blda.load("runs/demo")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE forbids downloads"):
        blda.load("runs/demo")


def test_what_is_no_network_of_this_library_is_one_line(segmenter, tmp_path, monkeypatch):
    (tmp_path / "bert").mkdir()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "bert"))
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors; it was not saved by blda"):
        blda.load("me/bert")
    segmenter.save_pretrained(tmp_path / "net")
    (tmp_path / "net" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        blda.load(tmp_path / "net")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        segmenter.save_pretrained(tmp_path / "file")
    with pytest.raises(ValueError, match="give user/name"):
        segmenter.push_to_hub("streets")


def test_without_huggingface_hub_the_command_that_installs_it_is_said(segmenter, monkeypatch):
    plain = builtins.__import__

    def without(name: str, *given: object, **more: object) -> object:
        if name == "huggingface_hub":
            raise ModuleNotFoundError(name=name)
        return plain(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FileNotFoundError, match="pip install huggingface_hub"):
        segmenter.push_to_hub("me/streets")


def test_paths_are_not_taken_for_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/demo").mkdir(parents=True)
    for where in (
        "runs/demo",
        "runs/step_000001.pt",
        "runs",
        "a/b/c",
        "/runs/demo",
        "./demo",
        "../demo",
        Path("me/net"),
    ):
        assert not saved_folder.is_id(where), where
    for where in ("me/net", "me/net@main", "me/net-1.0_b"):
        assert saved_folder.is_id(where), where
    with pytest.raises(ValueError, match="no step_"):
        blda.load("runs/demo")
