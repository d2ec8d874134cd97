"""Draws, batches, class statistics and the loader."""

from __future__ import annotations

import dataclasses
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blda.data.class_statistics import count_classes
from blda.data.draws import Draw
from blda.data.label_map import label_lookup
from blda.data.loader import endless_loader, evaluation_loader
from blda.data.readers.image_folder import FolderReader
from blda.data.sample import IGNORE, Sample
from blda.data.sampler import DrawSampler, RareClassSampler
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.data.transforms import RandomCrop

IDS = {0: "road", 1: "sky", 2: "car"}
CLASSES = ("road", "sky", "car")
TABLE = label_lookup(IDS, (255,), CLASSES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for i in range(5):
        Image.fromarray(random.integers(0, 255, (20, 30, 3), np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(random.choice([0, 1, 2, 255], (20, 30)).astype(np.uint8)).save(tmp_path / f"labels/{i}.png")
    return tmp_path


def reader_of(folder: Path, labelled: bool = True) -> FolderReader:
    return FolderReader(folder / "images", folder / "labels" if labelled else None, IDS, image_suffix=".png")


def dataset_of(folder: Path, labelled: bool = True) -> SegmentationDataset:
    transform = RandomCrop(crop=(8, 12), min_pixels=10)
    return SegmentationDataset(reader_of(folder, labelled), TABLE if labelled else None, transform, seed=3)


def same(first: Sample, second: Sample) -> bool:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(first))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_every_epoch_shows_every_frame_in_another_order() -> None:
    draws = [draw for batch in islice(DrawSampler(7, 1, seed=1), 21) for draw in batch]
    assert [draw.number for draw in draws] == list(range(21))
    epochs = [[draw.index for draw in draws[i : i + 7]] for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


PIXELS = np.random.default_rng(0).integers(0, 6000, (9, 3))


@pytest.mark.parametrize("kind", [lambda **k: DrawSampler(9, **k), lambda **k: RareClassSampler(PIXELS, **k)])
def test_resume_is_skipping_and_two_processes_are_one(kind: object) -> None:
    whole = list(islice(kind(batch=4, seed=2), 12))
    assert list(islice(kind(batch=4, seed=2, start_step=5), 7)) == whole[5:]
    ranks = [islice(kind(batch=2, rank=rank, world=2, seed=2), 12) for rank in (0, 1)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == whole
    assert list(islice(kind(batch=4, seed=3), 12)) != whole


def test_sampler_refuses_nonsense() -> None:
    for length, batch, rank, world in ((0, 1, 0, 1), (5, 0, 0, 1), (5, 1, 1, 1)):
        with pytest.raises(ValueError, match="at least 1"):
            DrawSampler(length, batch, rank, world)


def test_rare_classes_are_drawn_by_their_law() -> None:
    pixels = np.array([[9000, 900, 0], [9000, 0, 20], [9000, 500, 0], [9000, 100, 0]])
    sampler = RareClassSampler(pixels, 1, temperature=0.5, min_pixels=200)
    share = pixels.sum(0) / pixels.sum()
    law = np.exp((1 - share[:2]) / 0.5)
    law /= law.sum()
    assert sampler.probabilities.numpy() == pytest.approx([*law, 0])
    draws = [sampler.draw(number) for number in range(4000)]
    for wanted in (0, 1):
        drawn = [draw.index for draw in draws if draw.wanted == wanted]
        assert len(drawn) / 4000 == pytest.approx(law[wanted], abs=0.03)
        assert all(pixels[index, wanted] >= 200 for index in drawn)
    assert {draw.index for draw in draws if draw.wanted == 1} == {0, 2}
    assert all(draw.wanted != 2 for draw in draws)


def test_rare_class_sampling_takes_small_temperatures_and_no_empty_data() -> None:
    probabilities = RareClassSampler(PIXELS, 1, temperature=1e-4).probabilities
    assert torch.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="lower min_pixels"):
        RareClassSampler(PIXELS, 1, min_pixels=10_000)


def test_class_pixels_are_counted_cached_and_renewed(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "deep"
    reader = reader_of(folder)
    expected = [[int((np.asarray(Image.open(frame.label)) == i).sum()) for i in range(3)] for frame in reader.frames]
    assert count_classes(reader, TABLE, 3, cache, skip_unreadable=False).pixels.tolist() == expected
    (file,) = cache.iterdir()
    record = json.loads(file.read_text())
    record["pixels"][0][0] = 12345
    file.write_text(json.dumps(record))
    assert count_classes(reader, TABLE, 3, cache, skip_unreadable=False).pixels[0, 0] == 12345, "read from the cache"
    assert count_classes(reader, TABLE, 3, skip_unreadable=False).pixels.tolist() == expected
    file.write_text("{ half a file")
    assert count_classes(reader, TABLE, 3, cache, skip_unreadable=False).pixels.tolist() == expected
    Image.new("L", (30, 20), 2).save(reader.frames[0].label)
    assert count_classes(reader, TABLE, 3, cache, skip_unreadable=False).pixels[0].tolist() == [0, 0, 600], (
        "the data changed"
    )
    other = label_lookup(IDS, (255,), ("car", "sky", "road"))
    assert count_classes(reader, other, 3, cache, skip_unreadable=False).pixels[0].tolist() == [600, 0, 0], (
        "the table changed"
    )


def test_class_pixels_of_bad_data(folder: Path) -> None:
    with pytest.raises(ValueError, match="need a labelled data set"):
        count_classes(reader_of(folder, labelled=False), TABLE, 3, skip_unreadable=False)
    Image.new("L", (30, 20), 9).save(folder / "labels/3.png")
    with pytest.raises(ValueError, match=r"3\.png holds unknown ids 9"):
        count_classes(reader_of(folder), TABLE, 3, skip_unreadable=False)


def test_sample_is_typed_and_a_function_of_seed_and_number(folder: Path) -> None:
    dataset = dataset_of(folder)
    sample = dataset[Draw(2, 11)]
    assert sample.image.shape == (1, 3, 8, 12) and sample.image.dtype == torch.float32
    assert sample.label.shape == (1, 8, 12) and sample.label.dtype == torch.int64
    assert set(sample.label.unique().tolist()) <= {0, 1, 2, IGNORE}
    assert sample.name == ("2",) and sample.draw == (11,)
    assert sample.image.min() >= 0 and 0.9 < sample.image.max() <= 1
    torch.manual_seed(5)
    assert same(sample, dataset[Draw(2, 11)])
    assert not torch.equal(sample.image, dataset[Draw(2, 12)].image)


def test_unreadable_target_labels_do_not_matter(folder: Path) -> None:
    before = dataset_of(folder, labelled=False)[Draw(0, 0)]
    for label in (folder / "labels").iterdir():
        label.write_bytes(b"no label")
    after = dataset_of(folder, labelled=False)[Draw(0, 0)]
    assert after.label is None
    assert torch.equal(before.image, after.image)
    with pytest.raises(ValueError, match=r"cannot read .*0\.png"):
        dataset_of(folder)[Draw(0, 0)]


def test_sizes_must_match(folder: Path) -> None:
    Image.new("L", (15, 10)).save(folder / "labels/0.png")
    with pytest.raises(ValueError, match=r"images/0\.png is \(20, 30\) but its label .*labels/0\.png is \(10, 15\)"):
        dataset_of(folder)[Draw(0, 0)]


def test_evaluation_resizes_the_image_only(folder: Path) -> None:
    sample = EvaluationDataset(reader_of(folder), TABLE, (10, 16))[4]
    assert sample.image.shape == (1, 3, 10, 16)
    assert sample.label.shape == (1, 20, 30)
    assert sample.draw == (4,)
    assert EvaluationDataset(reader_of(folder), TABLE, None)[0].image.shape == (1, 3, 20, 30)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_sampler_s_draws_and_leaves_global_randomness(folder: Path, workers: int) -> None:
    dataset = dataset_of(folder)
    state = torch.get_rng_state()
    loader = endless_loader(dataset, DrawSampler(5, 2, seed=4), workers)
    batches = list(islice(loader, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert [number for batch in batches for number in batch.draw] == list(range(8))
    resumed = next(iter(endless_loader(dataset, DrawSampler(5, 2, seed=4, start_step=3), 0)))
    assert same(resumed, batches[3])


def test_bad_file_in_a_worker_keeps_its_name(folder: Path) -> None:
    (folder / "images/1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"images/1\.png"):
        list(islice(endless_loader(dataset_of(folder), DrawSampler(5, 1), 1), 5))


def test_evaluation_shows_each_frame_once(folder: Path) -> None:
    dataset = EvaluationDataset(reader_of(folder), TABLE)
    names = [batch.name[0] for rank in (0, 1) for batch in evaluation_loader(dataset, rank=rank, world=2)]
    assert sorted(names) == ["0", "1", "2", "3", "4"]
