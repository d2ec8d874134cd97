"""Images that `predict` takes, its answer, and its one line for everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blda
import trained
from blda.deploy.image_input import pixels_of
from blda.deploy.trained_segmenter import TrainedSegmenter

SIZE = (37, 51)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> TrainedSegmenter:
    return blda.load(trained.checkpoint_in(tmp_path_factory.mktemp("run"), "image"))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def test_every_kind_of_image_is_the_same_pixels(image, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    kinds = [image, image[:, ::-1][:, ::-1], Image.fromarray(image), path, str(path), planes, planes.float() / 255]
    for kind in [*kinds, (planes.float() / 255).double(), (planes.float() / 255).requires_grad_()]:
        pixels = pixels_of(kind)
        assert (pixels.dtype, pixels.flags.c_contiguous) == (np.uint8, True)
        assert np.array_equal(pixels, image)
    with Image.open(path) as opened:
        assert np.array_equal(pixels_of(opened), image)


def test_colours_of_a_file_are_read_as_everywhere(image, tmp_path):
    """Simulators write an alpha channel that says nothing, and indexed pictures have colours."""
    opaque = np.dstack((image, np.full(SIZE, 255, np.uint8)))
    Image.fromarray(opaque).save(tmp_path / "alpha.png")
    assert np.array_equal(pixels_of(tmp_path / "alpha.png"), image)
    few = Image.fromarray(image).quantize(16)
    few.save(tmp_path / "indexed.png")
    assert np.array_equal(pixels_of(tmp_path / "indexed.png"), np.asarray(few.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_alike(image, tmp_path, orientation):
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(image).save(path, exif=exif)
    of_file = pixels_of(path)
    assert of_file.shape == ((*SIZE, 3) if orientation < 5 else (*SIZE[::-1], 3))
    with Image.open(path) as opened:
        assert np.array_equal(pixels_of(opened), of_file)


def test_a_prediction_has_labels_probabilities_and_pictures(segmenter, image, tmp_path):
    prediction = segmenter.predict(image)
    assert (prediction.labels.dtype, prediction.labels.shape) == (np.uint8, SIZE)
    assert (prediction.probabilities.dtype, prediction.probabilities.shape) == (np.float32, (3, *SIZE))
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(prediction.probabilities.argmax(0), prediction.labels)

    prediction.save(tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as saved:
        assert saved.mode == "P"
        assert np.array_equal(np.asarray(saved), prediction.labels)
        assert np.array_equal(np.asarray(saved.convert("RGB")), segmenter.colors[prediction.labels])
    prediction.save(str(tmp_path / "a.npz"))
    with np.load(tmp_path / "a.npz") as saved:
        assert np.array_equal(saved["labels"], prediction.labels)
        assert np.array_equal(saved["probabilities"], prediction.probabilities)
    with pytest.raises(ValueError, match=r"ends in \.png or \.npz"):
        prediction.save(tmp_path / "a.jpg")


def test_an_overlay_goes_from_image_to_colours_and_names_them_below(segmenter, image):
    prediction = segmenter.predict(image)
    for strength, expected in ((0, image), (1, segmenter.colors[prediction.labels])):
        assert np.array_equal(np.asarray(prediction.overlay(strength, legend=False)), expected)
    plain, named = (np.asarray(prediction.overlay(legend=legend)) for legend in (False, True))
    assert np.array_equal(named[: SIZE[0]], plain)
    below = named[SIZE[0] :].reshape(-1, 3).tolist()
    assert all(color in below for color in segmenter.colors.tolist())
    with pytest.raises(ValueError, match="strength of an overlay is 2"):
        prediction.overlay(2)


def test_a_list_is_predicted_in_its_order_and_equal_sizes_together(segmenter, image, tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    other = random.integers(0, 256, (24, 60, 3), np.uint8)
    Image.fromarray(other).save(tmp_path / "b.png")
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    images = [image, tmp_path / "b.png", Image.fromarray(image), tensor, other, image]
    single = [segmenter.predict(each) for each in images]
    shapes, scores = [], TrainedSegmenter.scores
    monkeypatch.setattr(
        TrainedSegmenter, "scores", lambda self, seen: (shapes.append(len(seen)), scores(self, seen))[1]
    )
    several = segmenter.predict(images, batch=3)
    assert shapes == [3, 1, 2]
    for one, each in zip(single, several, strict=True):
        assert np.array_equal(one.image, each.image)
        np.testing.assert_allclose(one.probabilities, each.probabilities, atol=1e-5)
        assert (one.labels == each.labels).mean() > 0.99
    shapes.clear()
    (batch,) = segmenter.predict(tensor[None])
    assert np.array_equal(batch.labels, single[0].labels)
    assert len(segmenter.predict(np.stack([image, image]))) == 2
    assert [len(segmenter.predict(kind([image]))) for kind in (list, tuple)] == [1, 1]


def test_the_size_that_the_network_sees_decides_what_is_batched(segmenter, image, tmp_path):
    resized = blda.load(segmenter.origin.path, size=(24, 40))
    one, other = resized.predict([image, image[:20, :30]], batch=2)
    assert (one.labels.shape, other.labels.shape) == (SIZE, (20, 30))
    assert one.scores.shape == other.scores.shape == (1, 3, 24, 40)


@pytest.mark.cuda
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_gpu_predicts_alike_in_every_precision(segmenter, image, calibrated):
    calibration = trained.calibration() if calibrated else None
    cpu, gpu = (blda.load(segmenter.origin.path, calibration=calibration) for _ in range(2))
    expected = cpu.predict(image)
    assert gpu.to("cuda").device.type == "cuda"
    for change, most in ((gpu.float, 1e-3), (gpu.bfloat16, 0.1), (gpu.half, 0.02)):
        prediction = change().predict(image)
        assert prediction.scores.is_cuda
        np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=most)
    several = gpu.float().predict([image, image[:20], image], batch=2)
    assert not any(each.scores.is_cuda for each in several), "many predictions do not fill the GPU's memory"
    np.testing.assert_allclose(several[2].probabilities, expected.probabilities, atol=1e-3)


WRONG = {
    "gray array": (np.zeros(SIZE, np.uint8), r"one channel; repeat it three times, to \(H, W, 3\)"),
    "gray array of three axes": (np.zeros((*SIZE, 1), np.uint8), "one channel; repeat"),
    "alpha": (np.zeros((*SIZE, 4), np.uint8), r"alpha, is not used; give image\[\.\.\., :3\]"),
    "channels first": (np.zeros((3, *SIZE), np.uint8), r"transpose\(1, 2, 0\)"),
    "floats": (np.zeros((*SIZE, 3), np.float32), "float32; give uint8"),
    "no pixel": (np.zeros((0, 5, 3), np.uint8), "no pixel"),
    "gray tensor": (torch.zeros(1, *SIZE), r"one channel; repeat it three times, to \(3, H, W\)"),
    "gray tensor of two axes": (torch.zeros(SIZE), "one channel; repeat"),
    "tensor with alpha": (torch.zeros(4, *SIZE), r"give image\[:3\]"),
    "tensor with channels last": (torch.zeros(*SIZE, 3), r"permute\(2, 0, 1\)"),
    "tensor of ids": (torch.zeros(3, *SIZE, dtype=torch.int64), "int64; give uint8"),
    "tensor to 255": (torch.full((3, *SIZE), 200.0), "to 200; divide by 255"),
    "normalised tensor": (torch.full((3, *SIZE), -2.0), "the network normalises itself"),
    "not a number": (torch.full((3, *SIZE), torch.nan), "nan"),
    "empty list": ([], "no image"),
    "empty batch": (torch.zeros(0, 3, *SIZE), "no image"),
    "gray Pillow image": (Image.new("L", SIZE), r"mode L; give image.convert\('RGB'\)"),
    "Pillow image with alpha": (Image.new("RGBA", SIZE), "mode RGBA"),
    "nothing": (None, "an image is a NoneType"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_rgb_image_is_one_line_with_the_fix(segmenter, name):
    given, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as raised:
        segmenter.predict(given)
    assert "\n" not in str(raised.value)


def test_paths_that_are_no_image_are_one_line(segmenter, tmp_path):
    for name, message in {
        "": r"is a folder; give a list",
        "a.mp4": "blda_video.predict",
        "a.png": "cannot read",
    }.items():
        if name:
            (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=message):
            segmenter.predict(tmp_path / name)
    for mode in ("L", "LA", "I;16"):
        Image.new(mode, SIZE[::-1]).save(tmp_path / "gray.png")
        with pytest.raises(ValueError, match=r"gray\.png is an image of one channel.*convert\('RGB'\)"):
            segmenter.predict(tmp_path / "gray.png")
    with pytest.raises(FileNotFoundError, match="no file"):
        segmenter.predict(Path("nowhere.png"))
    with pytest.raises(ValueError, match="batch is 0"):
        segmenter.predict([tmp_path], batch=0)
