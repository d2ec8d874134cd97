"""The chapters of docs/adding.md: their Python runs as it stands in the page, and the parts keep their contracts."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn

import pages
import tiny
from blda.build import adaptation_factory
from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.data.batches import PseudoLabels
from blda.data.label_map import label_lookup
from blda.data.readers.image_folder import FolderReader
from blda.data.sample import IGNORE, Sample
from blda.data.segmentation_dataset import EvaluationDataset
from blda.engine.run_log import RunLog
from blda.models.segmenter import Segmenter
from blda.selftraining.augmentation import ColourAndBlur
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.mixing import ClassMix
from blda.selftraining.pseudo_labels import TeacherLabels
from blda.selftraining.self_training import SelfTraining
from blda.selftraining.teacher import Teacher
from blda_video.clips.clip_dataset import EvaluationClips
from blda_video.flow.dis import DIS
from blda_video.propagation.propagated_labels import PropagatedLabels
from blda_video.propagation.rule import context_mean

PAGE = (pages.ROOT / "docs" / "adding.md").read_text(encoding="utf-8")


@pytest.fixture
def chapter() -> Iterator:
    """A function from headings to a module made of all Python of these chapters, which is gone after the test."""
    module = ModuleType("chapter_of_adding")
    sys.modules[module.__name__] = module  # by which pickle finds classes

    def run(*headings: str) -> ModuleType:
        for heading in headings:
            for number, code in enumerate(pages.blocks(pages.section(PAGE, f"## {heading}"), "python")):
                exec(compile(code, f"docs/adding.md, {heading}, block {number}", "exec"), module.__dict__)
        return module

    yield run
    del sys.modules[module.__name__]


def of_yaml(heading: str) -> dict:
    """The one YAML block of a chapter."""
    (block,) = pages.blocks(pages.section(PAGE, f"## {heading}"), "yaml")
    return yaml.safe_load(block)


def picture(path: Path, pixels: np.ndarray) -> None:
    """Write a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def samples(draws: tuple[int, ...] = (0, 1), classes: int = 4, size: int = 64) -> tuple[Sample, Sample, PseudoLabels]:
    """A source batch, a target batch and pseudo-labels of class 3 with weights below 1."""
    images = [torch.rand(len(draws), 3, size, size) for _ in range(2)]
    label = torch.randint(0, classes, (len(draws), size, size))
    label[:, :4] = IGNORE
    names = tuple(map(str, draws))
    pseudo = PseudoLabels(torch.full_like(label, 3), torch.rand(label.shape) * 0.9)
    return Sample(images[0], label, names, draws), Sample(images[1], None, names, draws), pseudo


def test_every_chapter_with_python_has_a_test_here() -> None:
    titles = [line for line in PAGE.splitlines() if line.startswith("## ")]
    with_python = {title[3:] for title in titles if "```python" in pages.section(PAGE, title)}
    text = Path(__file__).read_text(encoding="utf-8")
    assert with_python and all(f'chapter("{title}"' in text or f'"{title}")' in text for title in with_python)


def test_a_data_set_by_yaml_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("data/drone/images/a/b.jpg"), np.full((8, 8, 3), 90, np.uint8))
    picture(Path("data/drone/ids/a/b_ids.png"), np.repeat(np.uint8([[0, 1, 2, 3, 4, 255, 1, 1]]), 8, 0))
    picture(Path("data/flights/c.png"), np.full((8, 8, 3), 90, np.uint8))
    config = of_yaml("A data set, by YAML alone")
    opened = {}
    for domain in ("source", "target"):
        keywords = {key: value for key, value in config[domain]["reader"].items() if key != "name"}
        opened[domain] = FolderReader(**keywords, labelled=domain == "source")
    reader = opened["source"]
    lookup = label_lookup(reader.label_map, reader.ignored, config["classes"], config["source"]["rename"])
    sample = EvaluationDataset(reader, lookup)[0]
    assert sample.label[0, 0].tolist() == [IGNORE, 0, 1, 2, 2, IGNORE, 0, 0]
    assert [frame.label for frame in opened["target"].frames] == [None]


def test_any_classifier_by_yaml_alone(tmp_path) -> None:
    path = tmp_path / "classifier.yaml"
    path.write_text(yaml.safe_dump({**of_yaml("Any classifier, by YAML alone"), "run": "runs/x"}))
    config = loading.load(path, ClassifyConfig)
    assert config.classification.mask.block == 64 and config.classes == ("cat", "dog")


def test_a_data_set_by_code(chapter, tmp_path) -> None:
    module = chapter("A data set, by code")
    for number in (1, 2, 4):
        ids = np.full((40, 48), number % 4, np.uint8)
        picture(tmp_path / f"train/rgb/{number:04d}.png", np.full((40, 48, 3), 50 * number, np.uint8))
        picture(tmp_path / f"train/ids/{number:04d}.png", ids)
    reader = module.Drone(tmp_path)
    lookup = label_lookup(reader.label_map, reader.ignored, ("road", "building", "vegetation"), {})
    labels = [sample.label.unique().tolist() for sample in EvaluationDataset(reader, lookup)]
    assert labels == [[0], [1], [IGNORE]]
    assert all(frame.label is None for frame in module.Drone(tmp_path, labelled=False).frames)

    clips = EvaluationClips(module.DroneSequence(tmp_path), lookup, None, (1,), DIS("fast"))
    assert [clip.valid.any().item() for clip in clips] == [True, False, False]


def test_an_encoder_and_a_head(chapter) -> None:
    module = chapter("An encoder", "A head")
    assert module.logits.shape == (2, 5, 50, 70)
    module.logits.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in module.network.named_parameters()}
    # The coarse level is the next head's; all else of the network learns.
    assert {name.split(".")[1] for name, gradient in gradients.items() if gradient is None} == {"coarse"}
    first, *_ = module.TwoLevels(8)(torch.rand(1, 3, 33, 65))
    assert first.shape == (1, 8, 9, 17)


def test_a_propagation_rule(chapter) -> None:
    rule = chapter("A propagation rule").Average()
    key, warped = torch.rand(2, 5, 6, 7).softmax(1), torch.rand(2, 3, 5, 6, 7).softmax(2)
    valid = torch.rand(2, 3, 6, 7) > 0.5
    valid[1] = False
    combined = rule(key, warped, valid, (-1, 1, 2))
    assert torch.equal(combined.probabilities[1], key[1]) and combined.keep.all()
    torch.testing.assert_close(combined.probabilities.sum(1), torch.ones(2, 6, 7))
    count = valid.sum(1, keepdim=True)
    torch.testing.assert_close(combined.probabilities * (1 + count), key + count * context_mean(key, warped, valid))
    assert PropagatedLabels(rule).rule is rule


def test_a_flow_estimator(chapter) -> None:
    estimator = chapter("A flow estimator").Farneback("large")
    image = nn.functional.interpolate(torch.rand(1, 3, 16, 16), size=(96, 96), mode="bicubic").clamp(0, 1)
    flow = pickle.loads(pickle.dumps(estimator))(image, image.roll(2, 3))
    assert flow.shape == (1, 2, 96, 96)
    assert flow[0, :, 24:-24, 24:-24].mean((1, 2)).tolist() == pytest.approx([2, 0], abs=0.3)
    with pytest.raises(ValueError, match="small, large"):
        type(estimator)("huge")


def test_a_loss_term(chapter) -> None:
    module = chapter("A loss term")
    assert module.losses.keys() == {"source", "mixed"}
    assert all(parameter.grad is not None for parameter in module.student.parameters())
    assert all(parameter.grad is None for parameter in module.teacher.parameters())
    assert "teacher" in module.method.state() and "teacher_features" in module.method.numbers()

    module.teacher.update(module.network)  # away from the student's own weights, so that there is a distance
    with torch.no_grad():
        module.network.encoder.get_parameter(next(iter(dict(module.network.encoder.named_parameters())))).add_(0.1)
    source, target, pseudo = samples()
    mixed = ClassMix(4, seed=0)(source, target, pseudo)
    output = module.student(mixed.image)
    plain, term = PlainLoss().mixed_loss(output, mixed, pseudo), module.criterion.mixed_loss(output, mixed, pseudo)
    assert term.item() == pytest.approx(plain.item() + 0.1 * module.criterion.last.item(), rel=1e-5)
    assert module.criterion.last > 0


def test_a_mixer(chapter) -> None:
    mixer = chapter("A mixer").CutMix(num_classes=4, seed=5)
    source, target, pseudo = samples()
    mixed = mixer(source, target, pseudo)
    mask = mixed.from_source
    assert mask.float().mean().item() == pytest.approx(0.25)
    # Pixel for pixel of one domain, with that domain's label and weight.
    assert torch.equal(mixed.image, torch.where(mask[:, None], source.image, target.image))
    assert torch.equal(mixed.label, torch.where(mask, source.label, pseudo.label))
    assert torch.equal(mixed.weight, torch.where(mask, 1.0, pseudo.weight))

    batches = samples(draws=(7, 8, 9))
    rows = [mixer(*(pick(batch, row) for batch in batches)).from_source for row in range(3)]
    assert torch.equal(mixer(*batches).from_source, torch.cat(rows))
    assert not torch.equal(rows[0], rows[1])

    network = Segmenter(nn.Identity(), _Coarse())
    parts = (network, Teacher(network), TeacherLabels(0.2), PlainLoss(), ColourAndBlur(seed=0))
    method = SelfTraining(*parts, num_classes=4, seed=0, mixer=mixer)
    assert [name for name, loss in method.losses(source, target) if loss.isfinite()] == ["source", "mixed"]
    assert torch.equal(method.snapshot.mixed.from_source, mask)


def test_a_mixer_by_its_name_in_a_config(chapter, worlds, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(adaptation_factory.MIXERS, "cutmix", chapter("A mixer").CutMix)
    named = "self_training={mixer: {name: cutmix, side: 0.7}, burn_in: 0}"
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "image", "method=self_training", named), "cutmix")
    assert type(trainer.method.mixer).__name__ == "CutMix" and trainer.method.mixer.side == 0.7
    trainer.fit(until=1)
    mixed = trainer.method.snapshot.mixed
    expected = [int(0.7 * side) for side in mixed.from_source.shape[1:]]
    assert [mixed.from_source[0].any(axis).sum().item() for axis in (1, 0)] == expected

    wrong = tiny.load(worlds, tmp_path, "image", "method=self_training", "self_training.mixer={name: cutmx}")
    with pytest.raises(ValueError, match=r"self_training\.mixer: unknown name 'cutmx'"):
        tiny.trainer(wrong, "wrong")


class _Coarse(nn.Module):
    """A head on colours, for a network whose encoder is the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(3, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(image)


def pick(batch: Sample | PseudoLabels, row: int) -> Sample | PseudoLabels:
    """One row of a batch as a batch."""
    each = slice(row, row + 1)
    if isinstance(batch, PseudoLabels):
        return PseudoLabels(batch.label[each], batch.weight[each])
    label = None if batch.label is None else batch.label[each]
    return Sample(batch.image[each], label, batch.name[each], batch.draw[each])


def test_a_metric(chapter) -> None:
    metric = chapter("A metric").PixelAccuracy()
    label = torch.tensor([[[0, 1], [IGNORE, 1]]])
    logits = nn.functional.one_hot(torch.tensor([[[0, 1], [1, 0]]]), 2).permute(0, 3, 1, 2).float()
    sample = Sample(torch.rand(1, 3, 2, 2), label, ("a",), (0,))
    metric.update(sample, logits, lambda image: logits)
    metric.update(sample, logits, lambda image: logits)
    assert metric.counts.tolist() == [4, 6] and metric.compute()["pixel_accuracy"] == pytest.approx(100 * 2 / 3)


def test_a_tracker(chapter, tmp_path) -> None:
    tracker = chapter("A tracker").CSVTracker(tmp_path / "numbers.csv")
    for main in (False, True):
        log = RunLog(tmp_path, ("road", "car"), main=main, bar=False, trackers=[tracker])
        log.numbers(3, {"loss/source": 0.5}, {"bias_target": torch.tensor([0.25, float("nan")])})
        log.scores(4, {"mIoU": 50.0})
        log.close()
    expected = ["3,train/loss/source,0.5", "3,train/bias_target/road,0.25", "4,target/mIoU,50.0"]
    assert (tmp_path / "numbers.csv").read_text().splitlines() == expected
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["train/bias_target/car"] is None and lines[1]["target/mIoU"] == 50


def test_a_method(chapter) -> None:
    network = Segmenter(nn.Identity(), _Coarse())
    teacher = Teacher(network)
    method = chapter("A method").Direct(network, teacher, TeacherLabels(0.0))
    source, target, _ = samples()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = teacher.model.head.classifier.weight.clone()
    totals = []
    for _ in range(20):
        losses = []
        for _, loss in method.losses(source, target):
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(network)
        totals.append(sum(losses))
    assert totals[-1] < totals[0] and method.state()["teacher"].updates == 20
    assert not torch.equal(teacher.model.head.classifier.weight, before)
