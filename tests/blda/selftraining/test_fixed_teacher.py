"""A fixed teacher: what it labels, that it never changes, and that a run continues with no other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blda.data.sample import Sample
from blda.engine import checkpoint
from blda.selftraining.augmentation import ColourAndBlur
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.fixed_teacher import FixedTeacher
from blda.selftraining.pseudo_labels import TeacherLabels, pseudo_labels
from blda.selftraining.self_training import SelfTraining


def _teacher(digest: str = "a" * 64, origin: str = "big/step_000007.pt") -> FixedTeacher:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)).requires_grad_(False)
    return FixedTeacher(network, origin, digest)


def _batch() -> tuple[Sample, Sample]:
    source = Sample(torch.rand(2, 3, 16, 24), torch.randint(0, 4, (2, 16, 24)), ("a", "b"), (0, 1))
    return source, Sample(torch.rand(2, 3, 16, 24), None, ("c", "d"), (0, 1))


def _method(teacher: FixedTeacher, burn_in: int = 0) -> tuple[SelfTraining, nn.Module]:
    student = nn.Conv2d(3, 4, 1)
    parts = (student, teacher, TeacherLabels(0.2), PlainLoss(), ColourAndBlur(seed=0))
    return SelfTraining(*parts, num_classes=4, seed=0, burn_in=burn_in), student


def _step(method: SelfTraining, student: nn.Module, source: Sample, target: Sample) -> list[str]:
    names = []
    for name, loss in method.losses(source, target):
        loss.backward()
        names.append(name)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter -= 0.1 * parameter.grad
    method.after_step(student)
    return names


def test_the_target_is_labelled_by_the_trained_network_whatever_the_student_becomes():
    teacher, (source, target) = _teacher(), _batch()
    method, student = _method(teacher)
    expected = pseudo_labels(teacher.predict(target.image).softmax(1), 0.2)
    before = [parameter.clone() for parameter in student.parameters()]
    for _ in range(3):
        assert _step(method, student, source, target) == ["source", "mixed"]
        assert torch.equal(method.snapshot.label, expected.label)
        assert torch.equal(method.snapshot.weight, expected.weight)
    assert not any(torch.equal(*pair) for pair in zip(before, student.parameters(), strict=True))


def test_the_network_neither_learns_nor_moves():
    teacher, (source, target) = _teacher(), _batch()
    method, student = _method(teacher)
    before = {name: value.clone() for name, value in teacher.predict.state_dict().items()}
    _step(method, student, source, target)
    assert all(torch.equal(value, before[name]) for name, value in teacher.predict.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.predict.parameters())


def test_burn_in_counts_steps_across_a_restart(tmp_path):
    method, student = _method(_teacher(), burn_in=3)
    kinds = [_step(method, student, *_batch()) for _ in range(2)]
    checkpoint.save(tmp_path / "step_000002.pt", method.state())
    again, student = _method(_teacher(), burn_in=3)
    checkpoint.load(tmp_path / "step_000002.pt", again.state())
    kinds += [_step(again, student, *_batch()) for _ in range(2)]
    assert kinds == [["source"]] * 3 + [["source", "mixed"]]


def test_a_checkpoint_says_which_network_it_was_and_holds_no_weights(tmp_path):
    path = tmp_path / "step_000001.pt"
    checkpoint.save(path, {"teacher": _teacher()})
    kept = checkpoint.read(path)["teacher"]
    assert (kept["origin"], kept["digest"], int(kept["updates"])) == ("big/step_000007.pt", "a" * 64, 0)
    assert sum(value.numel() for value in kept.values() if isinstance(value, torch.Tensor)) == 1
    checkpoint.load(path, {"teacher": _teacher(origin="moved/step_000007.pt")})


def test_another_network_is_refused_in_one_line(tmp_path):
    path = tmp_path / "step_000001.pt"
    checkpoint.save(path, {"teacher": _teacher()})
    with pytest.raises(ValueError, match=r"big/step_000008.pt \(digest bbbbbbbb\) is not the teacher of") as error:
        checkpoint.load(path, {"teacher": _teacher("b" * 64, "big/step_000008.pt")})
    said = str(error.value)
    assert said.startswith(str(path)) and "\n" not in said
    assert "which was big/step_000007.pt (digest aaaaaaaa); put that back" in said
    with pytest.raises(ValueError, match=r"moving average; set self_training\.teacher=null"):
        _teacher().load_state_dict({"model.weight": torch.zeros(1), "_extra_state": torch.tensor(3)})
