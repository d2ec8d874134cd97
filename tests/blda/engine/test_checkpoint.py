import pickle

import pytest
import torch
from torch import nn

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
