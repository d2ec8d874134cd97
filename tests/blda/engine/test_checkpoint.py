import os
import pickle
import re
import shutil
import subprocess

import pytest
import torch
from torch import nn

from blda import atomic, code_version
from blda.engine import checkpoint, optim, score_table


def test_round_trip_and_strict_names(tmp_path):
    path, net = checkpoint.path_of(tmp_path, 7), nn.Linear(3, 2)
    checkpoint.save(path, {"student": net})
    other = nn.Linear(3, 2)
    checkpoint.load(path, {"student": other})
    assert torch.equal(net.weight, other.weight)
    with pytest.raises(ValueError, match=r"missing \['teacher'\]"):
        checkpoint.load(path, {"student": other, "teacher": other})
    with pytest.raises(ValueError, match=r"not wanted \['student'\]"):
        checkpoint.load(path, {})
    with pytest.raises(ValueError, match=r"'student' does not fit.*shape"):
        checkpoint.load(path, {"student": nn.Linear(3, 4)})


class _Breaks(nn.Module):
    def get_extra_state(self):
        raise RuntimeError("power cut")


def test_an_interrupted_save_leaves_the_old_file_and_no_other(tmp_path):
    path = checkpoint.path_of(tmp_path, 1)
    checkpoint.save(path, {"student": nn.Linear(1, 1)})
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        checkpoint.save(path, {"student": _Breaks()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["step_000001.pt"]


class _Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(_Evil())], ids=["empty", "text", "code"])
def test_damaged_files_and_code_are_refused_by_name(tmp_path, content, capsys):
    path = tmp_path / "step_000001.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"step_000001\.pt is damaged"):
        checkpoint.read(path)
    assert "code ran" not in capsys.readouterr().out


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = checkpoint.path_of(tmp_path, 1)
    checkpoint.save(path, {"student": nn.Linear(64, 64)})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.read(path)


def test_latest_is_by_step_and_old_ones_go(tmp_path):
    for step in (9, 10, 100):
        checkpoint.save(checkpoint.path_of(tmp_path, step), {})
    assert checkpoint.step_of(checkpoint.latest(tmp_path)) == 100
    checkpoint.keep_last(tmp_path, 2)
    assert sorted(map(checkpoint.step_of, tmp_path.iterdir())) == [10, 100]
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_rate_warms_up_from_nearly_zero_and_ends_at_zero():
    shares = [optim.rate(step, 10, 100) for step in range(101)]
    assert shares[0] == pytest.approx(1e-6)
    assert max(shares) == shares[10] == pytest.approx(0.9)
    assert shares[100] == 0
    assert optim.rate(0, 0, 10) == 1


def test_optimizer_groups_cover_every_parameter_once_with_their_rates():
    net = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "head": nn.Linear(2, 2)})
    optimizer = optim.adamw(net, lr=1.0, head_factor=10.0, weight_decay=0.5)
    settings = {p: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert settings == {
        net.encoder[0].weight: (1.0, 0.5),
        net.encoder[0].bias: (1.0, 0.5),
        net.encoder[1].weight: (1.0, 0.0),
        net.encoder[1].bias: (1.0, 0.0),
        net.head.weight: (10.0, 0.5),
        net.head.bias: (10.0, 0.5),
    }
    optim.set_rate(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.5, 5.0}


def test_table_shows_each_run_and_the_gain():
    first = {"iou/road": 50.0, "acc/road": 60.0, "mIoU": 50.0, "mAcc": 60.0, "std": 0.0}
    text = score_table.of_classes({"source_only": first, "blda": {**first, "iou/road": 61.5}}, ("road", "sky"))
    road = next(line for line in text.splitlines() if line.startswith("road"))
    assert road.split() == ["road", "50.00", "60.00", "61.50", "60.00", "+11.50"]
    assert "sky" not in text


def test_a_class_without_labels_has_no_row_but_is_named():
    nan = float("nan")
    scores = {"iou/road": 50.0, "acc/road": 60.0, "iou/bus": nan, "acc/bus": nan, "iou/car": 0.0, "acc/car": nan}
    scores |= {"mIoU": 25.0, "mAcc": 60.0, "std": 25.0, "mIoU_classes": 2, "protocol_classes": 3}
    lines = score_table.of_classes({"blda": scores}, ("road", "bus", "car")).splitlines()
    titles = [line.split()[0] for line in lines]
    assert "bus" not in titles and {"road", "car", "mean"} <= {*titles}
    assert lines[-1] == "blda: mIoU is the mean over 2 of 3 classes; the labels lack bus"


def _tensors(states: dict) -> list[torch.Tensor]:
    return [value for _, value in sorted(states["student"].items())]


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "of an older version"])
def test_200_flipped_bits_are_refused_or_change_nothing(tmp_path, sealed):
    path = checkpoint.path_of(tmp_path, 1)
    net = nn.Linear(5, 7)
    checkpoint.save(path, {"student": net}, {"seed": 1})
    if not sealed:
        torch.save({"student": net.state_dict()}, path)
    whole, wanted = path.read_bytes(), _tensors(checkpoint.read(path))
    places = torch.randint(0, 8 * len(whole), (200,), generator=torch.Generator().manual_seed(0)).tolist()
    places += range(8 * len(whole) - 90 * 8, 8 * len(whole), 8)  # the digest itself, and the zip's end
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = _tensors(checkpoint.read(path))
        except ValueError as error:
            refused += 1
            assert "damaged" in str(error)
            assert "\n" not in str(error)
            continue
        assert len(found) == len(wanted)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert refused >= (250 if sealed else 20)


def test_a_damaged_checkpoint_names_the_whole_one_before_it(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(checkpoint.path_of(tmp_path, step), {"student": nn.Linear(2, 2)})
    (tmp_path / "step_000009_copy.pt").write_bytes(b"a user's own")
    for step in (2, 3):
        path = checkpoint.path_of(tmp_path, step)
        path.write_bytes(path.read_bytes()[:-300])
    newest = checkpoint.latest(tmp_path)
    assert checkpoint.step_of(newest) == 3
    with pytest.raises(ValueError, match=r"step_000001\.pt is whole: delete step_000003\.pt.*step 1"):
        checkpoint.read(newest)
    checkpoint.path_of(tmp_path, 1).unlink()
    with pytest.raises(ValueError, match="no older whole"):
        checkpoint.read(newest)


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path):
    path, net = checkpoint.path_of(tmp_path, 1), nn.Linear(2, 2)
    checkpoint.save(path, {"student": net}, {"run": "a", "seed": 1})
    checkpoint.load(path, {"student": net}, {"run": "a", "seed": 1, "new": 3})
    with pytest.raises(ValueError, match=r"another run.*seed 1, here 2"):
        checkpoint.load(path, {"student": net}, {"run": "a", "seed": 2})
    checkpoint.save(path, {"student": net})
    checkpoint.load(path, {"student": net}, {"run": "a", "seed": 2})


@pytest.mark.parametrize(
    "content", [[1, 2], {"student": torch.zeros(3)}, torch.zeros(3)], ids=["list", "part", "tensor"]
)
def test_tensors_that_are_no_states_are_refused(tmp_path, content):
    atomic.write_tensors(checkpoint.path_of(tmp_path, 2), content)
    checkpoint.save(checkpoint.path_of(tmp_path, 1), {"student": nn.Linear(2, 2)})
    with pytest.raises(
        ValueError, match=r"step_000002\.pt is no checkpoint .* holds a (list|Tensor); .*step_000001.*whole"
    ):
        checkpoint.read(checkpoint.path_of(tmp_path, 2))


def test_what_is_no_file_names_the_checkpoint_before(tmp_path):
    checkpoint.save(checkpoint.path_of(tmp_path, 1), {"student": nn.Linear(2, 2)})
    checkpoint.path_of(tmp_path, 2).mkdir()
    checkpoint.path_of(tmp_path, 3).symlink_to("nowhere")
    for step in (2, 3):
        with pytest.raises(FileNotFoundError, match=rf"{step}\.pt is no file; .*step_000001\.pt is whole: delete"):
            checkpoint.read(checkpoint.path_of(tmp_path, step))


def test_a_checkpoint_carries_the_code_version_and_another_major_one_is_refused(tmp_path):
    path, net = checkpoint.path_of(tmp_path, 1), nn.Linear(2, 2)
    checkpoint.save(path, {"student": net}, {"seed": 1})
    written = atomic.read_tensors(path)[checkpoint.IDENTITY]
    assert checkpoint.read(path).keys() == {"student"}
    assert written == {"seed": 1, **code_version.code_version()}
    major, _, rest = written["version"].partition(".")
    atomic.write_tensors(path, {"student": net.state_dict(), "identity": {"version": f"{major}.9999"}})
    checkpoint.load(path, {"student": net})
    other = {"version": f"{int(major) + 1}.{rest}", "commit": "abc123"}
    atomic.write_tensors(path, {"student": net.state_dict(), "identity": other})
    ours = written["version"]
    expected = rf"step_000001.*version {other['version']} of blda-video, commit abc123.*this is version {ours}"
    with pytest.raises(ValueError, match=expected):
        checkpoint.load(path, {"student": net})
    atomic.write_tensors(path, {"student": net.state_dict()})
    checkpoint.load(path, {"student": net})


def test_the_version_is_the_checkouts_own_and_its_commit_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text('name = "blda-video"\nversion = "7.1"\n')
    assert code_version._version(tmp_path) == "7.1"
    assert code_version._commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    if shutil.which("git") is None:
        pytest.skip("no git here")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    assert re.fullmatch("[0-9a-f]{12}", code_version._commit(tmp_path))
    (tmp_path / "pyproject.toml").write_text("changed")
    assert code_version._commit(tmp_path).endswith("-dirty")


def test_refusing_a_pickle_gives_no_unsafe_advice(tmp_path):
    path = tmp_path / "step_000001.pt"
    for content in (pickle.dumps(_Evil()), b"words", b"step: 3\nlr: 1\n", b"PK\3\4 not a zip", b"\x80\x02}q\x00."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"step_000001\.pt") as caught:
            checkpoint.load(path, {"student": nn.Linear(1, 1)})
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_full_disk_names_the_file_and_what_is_left(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    checkpoint.save(checkpoint.path_of(tmp_path, 1), {"student": nn.Linear(1, 1)})
    with open("/dev/full", "wb") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathlib.Path.open", lambda *_: full)
        with pytest.raises(ValueError, match=r"cannot write .*step_000002\.pt \(No space.*step_000001\.pt is whole"):
            checkpoint.save(checkpoint.path_of(tmp_path, 2), {"student": nn.Linear(300, 300)})


def test_drafts_of_dead_processes_are_swept(tmp_path):
    kept = [tmp_path / f".step_000001.pt.{os.getpid()}", tmp_path / ".hidden", tmp_path / "step_000001.pt"]
    for path in (*kept, tmp_path / ".step_000001.pt.999999999"):
        path.write_bytes(b"x")
    assert [path.name for path in atomic.sweep(tmp_path)] == [".step_000001.pt.999999999"]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
