"""A classifier adapted by the same core, on a small generated set in VisDA-2017's layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from blda.balance.gaussian_mixture import cdf
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.pooled_statistics import PooledStatistics
from blda.build.classifier_run import classifier_run
from blda.build.run import Run
from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.data.batches import PseudoLabels
from blda.data.draws import Draw
from blda.data.protocols import protocol_of
from blda.data.random_resized_crop import RandomResizedCrop, center_crop
from blda.data.readers.class_folders import ClassFolders
from blda.data.sample import IGNORE, Sample
from blda.engine import checkpoint, score_table
from blda.engine.class_accuracy import ClassAccuracy
from blda.engine.trainer import Trainer
from blda.models.classifier import Classifier, LinearHead
from blda.models.encoders.small import SmallEncoder
from blda.selftraining.augmentation import ColourAndBlur
from blda.selftraining.masking import BlockMask
from blda.selftraining.mixing import ClassMix, WholeImages, mix
from blda.selftraining.pseudo_labels import ImageLabels
from cli import tool

ROOT = Path(__file__).parents[3]
CLASSES = ("cross", "disc", "frame", "stripes")
SIDE = 32


def _shape(name: str, generator: np.random.Generator) -> np.ndarray:
    """A mask (SIDE, SIDE) bool of the class, at a random place and of a random size."""
    y, x = np.mgrid[:SIDE, :SIDE] - generator.integers(12, 20, (2, 1, 1))
    radius = generator.integers(8, 12)
    inside = np.maximum(abs(x), abs(y)) < radius
    return {
        "cross": inside & ((abs(x) < radius / 3) | (abs(y) < radius / 3)),
        "disc": x**2 + y**2 < radius**2,
        "frame": inside & (np.maximum(abs(x), abs(y)) > radius - 3),
        "stripes": inside & (y % 8 < 4),
    }[name]


def _draw(name: str, target: bool, seed: int) -> np.ndarray:
    """Source: bright on a dark, even ground. Target: on a ground with a slope, less contrast, noise."""
    generator = np.random.default_rng(seed)
    ground, colour = generator.integers(20, 70, 3), generator.integers(150, 250, 3)
    image = np.where(_shape(name, generator)[..., None], colour, ground).astype(float)
    if target:
        slope = np.linspace(-20, 20, SIDE)[:, None, None]
        image = 40 + 0.6 * image + slope + generator.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def make_set(root: Path, split: str, count: int, suffix: str = ".png") -> Path:
    """`<root>/<split>/<class>/<number>.png` with `image_list.txt`; unlike the folders, file names tell nothing."""
    lines = []
    numbers = np.random.default_rng(len(split)).permutation(count * len(CLASSES)).tolist()
    for index, name in enumerate(CLASSES):
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            number = numbers[index * count + i]
            image = _draw(name, split != "train", 1000 * (split != "train") + number)
            cv2.imwrite(str(root / split / name / f"{number:04d}{suffix}"), image)
            lines.append(f"{name}/{number:04d}{suffix} {index}\n")
    (root / split / "image_list.txt").write_text("".join(lines))
    return root / split


@pytest.fixture(scope="module")
def visda(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("visda")
    make_set(root, "train", 24)
    make_set(root, "validation", 16, ".jpg")
    return root


def _overrides(visda: Path, run: Path, *more: str) -> list[str]:
    return [
        f"run={run}",
        f"classes=[{', '.join(CLASSES)}]",
        f"source.reader.images={visda / 'train'}",
        f"target.reader.images={visda / 'validation'}",
        f"evaluation.reader.images={visda / 'validation'}",
        *(f"{key}=[36, 36]" for key in ("source.resize", "target.resize", "evaluation.size")),
        *(f"{key}=[32, 32]" for key in ("source.crop", "target.crop", "classification.centre")),
        "classification.mask={block: 8, ratio: 0.3}",
        "model.encoder={name: small, channels: [16, 16, 32, 32], depths: [0, 0, 0, 0]}",
        "model.head={name: linear, bottleneck: 16}",
        "self_training={momentum: 0.9, threshold: 0.4, blur: 0.0, burn_in: 0}",
        "blda={warmup: 10, min_pixels: 2}",
        "optimizer={lr: 1.0e-2, head_factor: 2, warmup: 2}",
        "training={steps: 4, batch: 16, workers: 0, precision: 'no', checkpoint_every: 24}",
        "evaluation.every=100",
        "log={every: 2, pictures: 100, bar: false, trackers: []}",
        *more,
    ]


def _build(visda: Path, run: Path, *more: str) -> Run:
    config = loading.load(ROOT / "configs" / "visda17.yaml", ClassifyConfig, _overrides(visda, run, *more))
    return classifier_run(config, Accelerator(cpu=True))


def test_published_config_trains_and_is_measured_by_the_tools(visda, tmp_path, capsys):
    shown = ("log.pictures=4", "log.trackers=[tensorboard]")
    overrides = _overrides(visda, tmp_path, "compare=[source_only]", *shown)
    tool("train_image", ROOT / "configs" / "visda17.yaml", *overrides)
    printed = capsys.readouterr().out
    assert all(word in printed for word in (*CLASSES, "source_only", "blda", "acc", "all images"))
    assert "IoU" not in printed
    assert "mAcc on validation" in printed
    final = json.loads((tmp_path / "blda" / "result.json").read_text())
    assert {"mAcc", "accuracy", "std", *(f"acc/{name}" for name in CLASSES)} <= final.keys()
    logged = [json.loads(line) for line in (tmp_path / "blda" / "metrics.jsonl").read_text().splitlines()]
    assert any("train/bias_target/disc" in line for line in logged)
    assert logged[-1]["target/best_on_validation/mAcc"] == pytest.approx(final["mAcc"])
    drawn = EventAccumulator(str(tmp_path / "blda")).Reload().Tags()["images"]
    assert {"overview/accuracy_per_class", "overview/confusion"} <= set(drawn)

    tool("evaluate", checkpoint.latest(tmp_path / "blda"))
    spoken = capsys.readouterr()
    scores = json.loads(spoken.out)
    assert scores["mAcc"] == pytest.approx(final["mAcc"])
    assert scores["acc/disc"] == pytest.approx(final["acc/disc"])
    assert "disc" in spoken.err
    with pytest.raises(SystemExit, match="classifies whole images"):
        tool("draw_predictions", checkpoint.latest(tmp_path / "blda"), "--output", tmp_path / "x.png")


@pytest.mark.parametrize("method", ["source_only", "self_training", "blda"])
def test_a_few_steps_beat_chance_by_far_and_two_parts_equal_the_whole(visda, tmp_path, method):
    def trainer(name: str) -> Trainer:
        run = _build(visda, tmp_path, "training.steps=30", "self_training.burn_in=10")
        return run.trainer(method, tmp_path / name)

    scores = trainer("whole").fit()
    assert scores["mAcc"] > 50, "chance is 25"
    assert scores["mAcc"] == pytest.approx(np.mean([scores[f"acc/{name}"] for name in CLASSES]))

    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / "step_000030.pt").unlink()
    second = trainer("parts")
    second.resume()
    assert second.step == 24
    assert second.fit()["mAcc"] == scores["mAcc"]
    one, other = (checkpoint.read(checkpoint.latest(tmp_path / name)) for name in ("whole", "parts"))
    for name in one.keys() - {"trainer", "optimizer"}:
        for key, tensor in one[name].items():
            assert torch.equal(tensor, other[name][key]), (name, key)
    if method == "blda":
        assert one["source_statistics"]["estimated"].all()
        assert one["target_statistics"]["estimated"][: len(CLASSES)].any(), "with images of the batches before"


def test_nothing_in_training_knows_the_targets_classes(visda, tmp_path):
    flat, renamed = tmp_path / "flat", tmp_path / "renamed"
    flat.mkdir()
    for image in (visda / "validation").glob("*/*.jpg"):
        shutil.copy(image, flat)
        # Other folders in another order, and each class spread over two of them.
        folder = renamed / f"{'zyxw'[CLASSES.index(image.parent.name)]}{int(image.stem) % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder)

    def trained(folder: Path) -> dict[str, torch.Tensor]:
        run = _build(visda, tmp_path, f"target.reader.images={folder}")
        run.trainer("blda", tmp_path / "run" / folder.name).fit()
        assert all(frame.label is None for frame in run.data.target().reader.frames)
        return checkpoint.read(checkpoint.latest(tmp_path / "run" / folder.name))["student"]

    expected = trained(visda / "validation")
    for folder in (flat, renamed):
        state = trained(folder)
        assert all(torch.equal(tensor, state[key]) for key, tensor in expected.items())
    listing = visda / "validation" / "image_list.txt"
    listed = ClassFolders(visda / "validation", CLASSES, listing=listing, labelled=False)
    assert [f.image for f in listed.frames] == [
        f.image for f in ClassFolders(visda / "validation", CLASSES, labelled=False).frames
    ]


def test_folders_and_listing_agree(visda, tmp_path):
    by_folder = ClassFolders(visda / "train", CLASSES)
    by_list = ClassFolders(visda / "train", CLASSES, listing=visda / "train" / "image_list.txt")
    assert by_folder.frames == by_list.frames
    assert len(by_folder.frames) == 96
    for reader in (by_folder, by_list):
        assert {f.image.parent.name for f in reader.frames if reader.read_label(f.label) == 2} == {"frame"}
    trunk = tmp_path / "test" / "trunk00"  # as VisDA-2017's test set: folders without meaning
    trunk.mkdir(parents=True)
    shutil.copy(by_folder.frames[0].image, trunk / "a.png")
    (tmp_path / "test" / "image_list.txt").write_text("trunk00/a.png 3\n\n")
    test = ClassFolders(tmp_path / "test", CLASSES, listing=tmp_path / "test" / "image_list.txt")
    assert [(f.name, int(test.read_label(f.label))) for f in test.frames] == [("trunk00/a", 3)]


def test_what_is_wrong_with_the_folders_is_said_in_one_line(visda, tmp_path):
    root = tmp_path / "train"
    shutil.copytree(visda / "train", root)
    (root / "discs").mkdir()
    with pytest.raises(ValueError, match=r"discs is no class .*did you mean 'disc'.*ignored"):
        ClassFolders(root, CLASSES)
    assert len(ClassFolders(root, CLASSES, ignored=["discs"]).frames) == 96
    with pytest.raises(ValueError, match="discs holds no image"):
        ClassFolders(root, (*CLASSES, "discs"))
    (root / "discs").rmdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*train/square.*take the class out"):
        ClassFolders(root, (*CLASSES, "square"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        ClassFolders(tmp_path / "nowhere", CLASSES)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no image"):
        ClassFolders(empty, CLASSES, labelled=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("disc/none.png 1", r"no image .*none.png \(line 1 of"),
        ("disc/{0} 4", "ends in '4'; write an id from 0 to 3"),
        ("disc/{0} x", "ends in 'x'"),
        ("disc/{0}", "line 1 of .* is 'disc/"),
        ("disc/{0} 2", "shows frame; bring the reader's classes into"),
    ],
)
def test_what_is_wrong_with_a_listing_is_said_with_its_line(visda, tmp_path, line, message):
    image = min((visda / "train" / "disc").iterdir()).name
    listing = tmp_path / "list.txt"
    listing.write_text(line.format(image) + "\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ClassFolders(visda / "train", CLASSES, listing=listing)


def test_a_broken_image_and_a_wrong_size_stop_the_run_with_their_name(visda, tmp_path):
    shutil.copytree(visda / "train", tmp_path / "train")
    broken = sorted((tmp_path / "train" / "cross").iterdir(), key=lambda path: path.name)[0]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(SystemExit) as stopped:
        overrides = _overrides(visda, tmp_path / "run", f"source.reader.images={tmp_path / 'train'}")
        tool("train_image", ROOT / "configs" / "visda17.yaml", *overrides)
    assert broken.name in str(stopped.value.code)
    assert "\n" not in str(stopped.value.code)
    with pytest.raises(ValueError, match=r"image .*png: crop \(64, 64\) is larger than the image"):
        _build(visda, tmp_path, "source.crop=[64, 64]").prepare(["blda"])
    with pytest.raises(ValueError, match=r"centre \(64, 64\) is larger than the image"):
        _build(visda, tmp_path, "classification.centre=[64, 64]").prepare(["source_only"])
    with pytest.raises(ValueError, match=r"folder .*cross is no class of the data set"):
        _build(visda, tmp_path, "source.reader.classes=[disc, ring]").prepare(["blda"])
    with pytest.raises(ValueError, match="no class 'square'"):
        _build(visda, tmp_path, "source.rename={square: frame}").data.source()


def test_rare_classes_are_drawn_more_often_when_asked(visda, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(visda / "train", few)
    for image in sorted((few / "disc").iterdir())[2:]:
        image.unlink()
    rare = "source.rare={temperature: 0.1, min_pixels: 1, min_crop_ratio: 0.5}"
    run = _build(visda, tmp_path, f"source.reader.images={few}", rare)
    run.prepare(["source_only"])
    batches = run.batches.batches(adapts=False)(0)
    labels = torch.cat([next(batches)[0].label for _ in range(8)])
    assert (labels == 1).float().mean() > 0.5, "2 of 74 images are discs"


def test_windows_are_a_function_of_the_draw_and_show_the_share_asked_for(visda, tmp_path):
    window = RandomResizedCrop((0.25, 0.5), (24, 20), resize=(60, 80))
    for number in range(50):
        drawn = [window.random_geometry(torch.Generator().manual_seed(number), (9, 9)) for _ in range(2)]
        assert drawn[0] == drawn[1]
        height, width = drawn[0].size
        assert 0.24 < 24 * 20 / (height * width) < 0.52
        assert drawn[0].top + 24 <= height
        assert drawn[0].left + 20 <= width
    whole = RandomResizedCrop((1.0, 1.0), (24, 20), resize=(20, 80)).random_geometry(torch.Generator(), (9, 9))
    assert whole.size[0] == 24, "what does not fit is cut to the image"
    middle = center_crop((10, 12), (4, 4))
    assert (middle.top, middle.left, middle.flip) == (3, 4, False)
    with pytest.raises(ValueError, match="0 < least <= largest <= 1"):
        RandomResizedCrop((0.5, 0.2), (8, 8))
    run = _build(visda, tmp_path, "classification.scale=[0.3, 1.0]")
    data = run.data.target()
    one, again = data[Draw(3, 7)], data[Draw(3, 7)]
    assert torch.equal(one.image, again.image)
    assert one.label is None
    assert not torch.equal(one.image, data[Draw(3, 8)].image)
    assert run.data.source()[Draw(0, 0)].label.shape == (1,)


def test_masks_hide_whole_blocks_by_draw_and_leave_the_rest():
    plain = ColourAndBlur(0, jitter=0.0, blur=0.0)
    image = torch.rand(3, 3, 32, 48) * 0.5
    mask = BlockMask(plain, seed=1, block=16, ratio=0.5, fill=(1.0, 0.9, 0.8))
    masked = mask(image, (4, 5, 6))
    assert torch.equal(masked, torch.cat([mask(image[i : i + 1], (4 + i,)) for i in range(3)]))
    hidden = masked != image
    blocks = hidden.any(1).unfold(1, 16, 16).unfold(2, 16, 16).flatten(3)
    assert (blocks.all(-1) | ~blocks.any(-1)).all()
    assert 0.1 < blocks.float().mean() < 0.9
    assert masked[:, 1][hidden[:, 1]].unique().tolist() == pytest.approx([0.9])
    assert torch.equal(BlockMask(plain, 1, 16, 0.0)(image, (4, 5, 6)), image)
    with pytest.raises(ValueError, match="ratio"):
        BlockMask(plain, 1, 16, 1.5)


def test_whole_images_are_mixed_with_nothing_and_classmix_is_mix():
    sample = Sample(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), ("a", "b"), (0, 1))
    target = Sample(torch.rand(2, 3, 4, 4), None, ("c", "d"), (2, 3))
    pseudo = ImageLabels(0.8)(lambda image: torch.tensor([[9.0, 0.0, 0.0], [0.2, 0.0, 0.1]]), target)
    assert pseudo.label.tolist() == [0, 0]
    assert pseudo.weight.tolist() == [1.0, 0.0]
    mixed = WholeImages()(sample, target, pseudo)
    assert mixed.image is target.image
    assert mixed.label is pseudo.label
    assert not mixed.from_source.any()
    pixels = Sample(torch.rand(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)), ("a", "b"), (0, 1))
    trust = PseudoLabels(torch.zeros(2, 4, 4).long(), torch.ones(2, 4, 4))
    one, other = ClassMix(3, 5)(pixels, target, trust), mix(pixels, target, trust, 3, 5)
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("image", "label", "from_source"))


def test_the_classifier_takes_any_size_and_splits_its_parameters():
    torch.manual_seed(0)
    encoder = SmallEncoder((8, 8, 8, 8), (0, 0, 0, 0))
    model = Classifier(encoder, LinearHead(encoder.channels, 5, bottleneck=7))
    for size in ((32, 32), (45, 70)):
        logits = model(torch.rand(2, 3, *size))
        assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters() if p.ndim > 1)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "head"}
    lone = Classifier(encoder, LinearHead(encoder.channels, 5)).eval()
    assert lone(torch.rand(1, 3, 32, 32)).shape == (1, 5)


def test_accuracy_is_counted_by_class_and_adds_up():
    def sample(label: list[int]) -> Sample:
        return Sample(torch.zeros(len(label), 3, 1, 1), torch.tensor(label), ("x",) * len(label), (0,) * len(label))

    names = ("a", "b", "c")
    logits = torch.eye(3)[[0, 0, 1, 2, 0]]
    whole = ClassAccuracy(names, [protocol_of(names)])
    whole.update(sample([0, 0, 0, 1, IGNORE]), logits, None)
    parts = ClassAccuracy(names, [protocol_of(names)])
    parts.update(sample([0, 0]), logits[:2], None)
    parts.update(sample([0, 1, IGNORE]), logits[2:], None)
    assert torch.equal(whole.counts, parts.counts)
    scores = whole.compute()
    assert scores["acc/a"] == pytest.approx(200 / 3)
    assert scores["acc/b"] == 0
    assert np.isnan(scores["acc/c"])
    assert scores["mAcc"] == scores["all/mAcc"] == pytest.approx(100 / 3)
    assert scores["accuracy"] == 50
    assert "mIoU" not in scores
    with pytest.raises(ValueError, match="has no label"):
        whole.update(Sample(torch.zeros(1, 3, 1, 1), None, ("x",), (0,)), logits[:1], None)
    text = score_table.of_classes({"one": scores, "two": {**scores, "mAcc": 40.0}}, names)
    assert "+6.67" in text
    assert "50.00" in text.splitlines()[-3]
    assert text.splitlines()[-1] == "two: mAcc is the mean over 2 of 3 classes; the labels lack c"


def test_remembered_evidence_finds_the_width_that_small_batches_hide():
    torch.manual_seed(0)
    mean, deviation = torch.tensor([[4.0, -1.0], [0.0, 3.0]]), torch.tensor([[1.0], [2.0]])
    plain, pooled = LogitStatistics(2, min_pixels=1, warmup=20), PooledStatistics(2, min_pixels=1, warmup=20)
    for _ in range(150):
        label = torch.randint(0, 2, (5,))
        logits = mean[label] + deviation[label] * torch.randn(5, 2)
        plain.update(logits, label)
        pooled.update(logits, label)
    place = torch.linspace(-6, 10, 200)
    truth = torch.special.ndtr((place - mean[..., None]) / deviation[..., None])
    wrong = [(cdf(each.mixture, place) - truth).abs().amax(-1).mean() for each in (plain, pooled)]
    assert wrong[1] < 0.06
    assert wrong[1] < wrong[0] / 2
    fresh = PooledStatistics(2, min_pixels=1, warmup=20)
    fresh.load_state_dict(pooled.state_dict())
    for each in (fresh, pooled):
        each.update(logits, label)
    assert torch.equal(fresh.means, pooled.means)
    with pytest.raises(ValueError, match="memory"):
        PooledStatistics(2, memory=1.0)
