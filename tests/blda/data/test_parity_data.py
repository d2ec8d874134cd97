"""Data as the published code handles it, for the benchmark configs: jitter, sizes, labels, ClassMix, draws, warps."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from blda.balance.cross_entropy import cross_entropy
from blda.build.data_examination import examine
from blda.build.image_run import image_run
from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.config.schema import Config
from blda.data import seeding
from blda.data.batches import PseudoLabels
from blda.data.checks.dataset_check import CheckScope
from blda.data.distortion import PhotoMetricDistortion
from blda.data.sample import IGNORE, Sample
from blda.data.sampler import DrawSampler, RareClassSampler, ReplacingSampler
from blda.data.transforms import Geometry, RandomCrop, Resize, whole
from blda.engine import runtime
from blda.selftraining import kornia_jitter
from blda.selftraining.augmentation import ColourAndBlur, PublishedColourAndBlur, published_blur, unchanged
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.masked_consistency import MaskedConsistency
from blda.selftraining.masking import BlockMask
from blda.selftraining.mixing import ClassMix, chosen_classes_of_batch
from blda_video.config import VideoConfig

CONFIGS = Path(__file__).parents[3] / "configs"
IMAGES = ("gta2cs", "synthia2cs", "cs2acdc", "cs2darkzurich")
VIDEO = ("viper2csseq", "viper2bdd", "synthiaseq2csseq")
KINDS = {
    **dict.fromkeys((*VIDEO, "demo", "ablation", "world2camvid"), VideoConfig),
    **dict.fromkeys((*IMAGES, "camvid_day2dusk"), Config),
    "visda17": ClassifyConfig,
}
NAMES = [operation.__name__.removeprefix("adjust_") for operation in kornia_jitter.OPERATIONS]


@pytest.mark.parametrize("factor", ["0.8", "0.93", "1.2"])
@pytest.mark.parametrize("operation", kornia_jitter.OPERATIONS, ids=NAMES)
def test_colour_operations_equal_recorded_values(shared, operation, factor):
    golden = np.load(shared / "golden" / "jitter_kornia058.npz")
    image = torch.from_numpy(golden["image"]) / 255
    expected = torch.from_numpy(golden[f"{operation.__name__.removeprefix('adjust_')}_{factor}"])
    torch.testing.assert_close(operation(image, float(factor)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_colour_operations_do_what_their_names_say(factor):
    image = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0))
    hsv = np.apply_along_axis(lambda pixel: colorsys.rgb_to_hsv(*pixel), 0, image.double().numpy())
    saturated, turned = hsv.copy(), hsv.copy()
    saturated[1], turned[0] = (hsv[1] * factor).clip(0, 1), (hsv[0] + factor - 1) % 1
    expected = {
        "brightness": (image + factor - 1).clamp(0, 1),
        "contrast": (image * factor).clamp(0, 1),
        "saturation": _rgb(saturated),
        "hue": _rgb(turned),
    }
    for name, operation in zip(NAMES, kornia_jitter.OPERATIONS, strict=True):
        torch.testing.assert_close(operation(image, factor), expected[name], atol=2e-5, rtol=0)


def _rgb(hsv: np.ndarray) -> Tensor:
    return torch.from_numpy(np.apply_along_axis(lambda pixel: colorsys.hsv_to_rgb(*pixel), 0, hsv)).float()


@pytest.mark.parametrize("side", [512, 505, 64])
def test_blur_is_that_of_the_whole_published_kernel(side):
    image = torch.rand(3, 200, side, generator=torch.Generator().manual_seed(0))
    for sigma in (0.2, 1.14):
        kernels = []
        for length in (200, side):  # the published formula of the kernel's size
            tenth = np.ceil(0.1 * length)
            place = torch.arange(int(np.floor(tenth - 0.5 + tenth % 2))).double()
            kernel = torch.exp(-((place - len(place) // 2) ** 2) / (2 * sigma**2))
            kernels.append(kernel / kernel.sum())
        rows, columns = kernels
        padded = F.pad(image.double(), (len(columns) // 2,) * 2 + (len(rows) // 2,) * 2, mode="reflect")
        blurred = F.conv2d(padded[:, None], rows.view(1, 1, -1, 1))
        blurred = F.conv2d(blurred, columns.view(1, 1, 1, -1))[:, 0]
        torch.testing.assert_close(published_blur(image, sigma), blurred.float(), atol=1e-6, rtol=0)


def test_jitter_is_decided_for_a_batch_and_drawn_for_an_image():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1, -1)
    augment = PublishedColourAndBlur(seed=1, batch=4, blur=0.0)
    done = [augment(image, tuple(range(4 * step, 4 * step + 4))) for step in range(60)]
    changed = torch.stack([(images != image).flatten(1).any(1) for images in done])
    assert torch.equal(changed.all(1), changed.any(1))
    assert 0.65 < changed.all(1).float().mean() < 0.95
    assert all(len(images.flatten(1).unique(dim=0)) == 4 for images, c in zip(done, changed, strict=True) if c.all())


def test_jitter_does_not_depend_on_how_a_batch_is_split():
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for together in (False, True):
        augment = PublishedColourAndBlur(3, 4, together=together)
        for first in (0, 4, 8, 12):
            draws = tuple(range(first, first + 4))
            halves = augment(image[:2], draws[:2]), augment(image[2:], draws[2:])
            assert torch.equal(augment(image, draws), torch.cat(halves))


def test_only_masked_images_share_the_order_of_operations():
    image = torch.full((1, 3, 2, 2), 0.9)

    def orders(together: bool, monkeypatch: pytest.MonkeyPatch) -> list[set[tuple[int, ...]]]:
        seen: list[set[tuple[int, ...]]] = []
        monkeypatch.setattr(kornia_jitter, "jitter", lambda one, factors, order: (seen[-1].add(tuple(order)), one)[1])
        augment = PublishedColourAndBlur(0, 8, jitter=1.0, blur=0.0, together=together)
        for step in range(20):
            seen.append(set())
            augment(image.expand(8, -1, -1, -1), tuple(range(8 * step, 8 * step + 8)))
        return seen

    with pytest.MonkeyPatch.context() as patch:
        alone, shared = orders(False, patch), orders(True, patch)
    assert max(map(len, shared)) == 1 and min(map(len, alone)) > 1
    assert len(set().union(*shared)) > 8


def test_published_jitter_moves_brightness_more_than_twice_as_much():
    grey = torch.full((1, 3, 2, 2), 0.5)

    def deviation(augment) -> float:
        return torch.stack([augment(grey, (draw,)).mean() for draw in range(600)]).std().item()

    assert deviation(PublishedColourAndBlur(0, 1, jitter=1.0, blur=0.0)) == pytest.approx(0.13, abs=0.01)
    assert deviation(ColourAndBlur(0, jitter=1.0, blur=0.0)) == pytest.approx(0.057, abs=0.01)


@pytest.mark.parametrize(
    ("shape", "box", "size"),
    [
        ((1052, 1914), (720, 1280), (704, 1280)),
        ((1052, 1914), (1440, 2560), (1407, 2560)),
        ((1046, 1914), (720, 1280), (700, 1280)),
        ((1024, 2048), (512, 1024), (512, 1024)),
        ((760, 1280), (760, 1280), (760, 1280)),
        ((1080, 1920), (540, 960), (540, 960)),
        ((1914, 1052), (720, 1280), (1280, 704)),
        ((100, 1000), (50, 100), (10, 100)),
    ],
)
def test_keeping_the_ratio_gives_the_published_sizes(shape, box, size):
    assert Resize(box, keep_ratio=True)(shape) == size
    assert Resize(box)(shape) == box
    assert Resize()(shape) == shape


def test_labels_are_resized_as_by_opencvs_nearest_whatever_is_cut():
    generator = np.random.default_rng(0)
    sizes = [((1052, 1914), (704, 1280)), ((1080, 1920), (720, 1280)), ((1024, 2048), (512, 1024))]
    sizes += [((a, b), (c, d)) for a, b, c, d in generator.integers(30, 300, (60, 4)).tolist()]
    for old, new in sizes:
        label = generator.integers(0, 256, old, np.uint8)
        expected = cv2.resize(label, new[::-1], interpolation=cv2.INTER_NEAREST)
        top, left = int(generator.integers(new[0] - 20)), int(generator.integers(new[1] - 20))
        cut = Geometry(new, top, left, 20, 20, flip=True, nearest_exact=False)
        assert np.array_equal(cut.label(label), expected[top : top + 20, left : left + 20][:, ::-1])
    rule = Resize((30, 60), nearest_exact=False)
    assert not RandomCrop(rule, (8, 8)).random_geometry(seeding.generator("test", 0), (50, 90)).nearest_exact
    assert whole((4, 4)).nearest_exact


def test_half_of_the_labels_of_a_batch_are_chosen_ignored_ones_too():
    label = torch.tensor([[[0, 1, 1, IGNORE]], [[4, 4, 4, 0]]])
    chosen = torch.stack([chosen_classes_of_batch(label, 6, (2 * n, 2 * n + 1), seed=0) for n in range(300)])
    assert (chosen.sum(2) == 2).all()
    share = chosen.float().mean((0, 1))
    assert share[[2, 3, 5]].tolist() == [0, 0, 0]
    assert share[[0, 1, 4, 6]].tolist() == pytest.approx([0.5] * 4, abs=0.08)
    assert (chosen[:, 0] != chosen[:, 1]).any(1).float().mean() > 0.5
    odd = chosen_classes_of_batch(label[:1], 6, (0,), seed=0)
    assert odd.sum() == 2, "three labels, half of them rounded up"


def test_chosen_ignored_pixels_are_pasted_without_a_class():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (2, 4, 6), generator=generator)
    label[:, 0] = IGNORE
    source = Sample(torch.ones(2, 3, 4, 6), label, ("a", "b"), (0, 1))
    pseudo = PseudoLabels(torch.full((2, 4, 6), 3), torch.full((2, 4, 6), 0.5))
    pasted = []
    for step in range(20):
        target = Sample(torch.zeros(2, 3, 4, 6), None, ("a", "b"), (2 * step, 2 * step + 1))
        mixed = ClassMix(4, 0, chosen_classes_of_batch)(source, target, pseudo)
        assert torch.equal(mixed.image[:, 0] == 1, mixed.from_source)
        assert torch.equal(mixed.label, torch.where(mixed.from_source, label, 3))
        assert (mixed.weight[mixed.from_source] == 1).all()
        pasted.append((mixed.label == IGNORE).any().item())
    assert {True, False} == set(pasted)


def test_frames_are_drawn_with_replacement():
    sampler = ReplacingSampler(50, 1, seed=1)
    drawn = [sampler.draw(number).index for number in range(400)]
    assert drawn == [ReplacingSampler(50, 4, 1, 2, seed=1).draw(number).index for number in range(400)]
    assert set(drawn) == set(range(50))
    assert len(set(drawn[:50])) < 45
    assert len({DrawSampler(50, 1, seed=1).draw(number).index for number in range(50)}) == 50


def test_rare_class_sampling_asks_for_more_than_the_least_pixels():
    pixels = np.array([[3000, 0], [3001, 5000]])
    assert RareClassSampler(pixels, 1, min_pixels=3000).frames == [[0, 1], [1]]
    assert RareClassSampler(pixels, 1, min_pixels=3000, more=True).frames == [[1], [1]]


@pytest.mark.parametrize(("tries", "most"), [(10, 100), (11, 121)])
def test_a_crop_is_drawn_so_often_and_the_last_is_taken(tries, most):
    class Counting(RandomCrop):
        drawn = 0

        def random_geometry(self, *given):
            self.drawn += 1
            return super().random_geometry(*given)

    label = np.zeros((8, 8), np.uint8)
    crop = Counting(crop=(4, 4), tries=tries)
    crop.random_label_geometry(seeding.generator("test", 0), label, np.arange(256, dtype=np.uint8), wanted=7)
    assert crop.drawn == most


def test_distortion_changes_what_the_published_one_changes():
    image = np.random.default_rng(0).integers(60, 180, (24, 24, 3), np.uint8)
    grey = np.repeat(image[..., :1], 3, -1)
    distort = PhotoMetricDistortion()
    coloured = [distort(image, seeding.generator("test", n)) for n in range(400)]
    assert all(np.array_equal(a, distort(image, seeding.generator("test", n))) for n, a in enumerate(coloured[:20]))
    assert np.mean([np.array_equal(each, image) for each in coloured]) == pytest.approx(1 / 16, abs=0.04)
    greys = np.stack([distort(grey, seeding.generator("test", n)) for n in range(400)]).astype(int)
    assert (greys.max(-1) == greys.min(-1)).all(), "grey has no hue and no saturation"
    # Grey pixels are moved by brightness (within 32) and contrast (0.5 to 1.5), each in half of the images.
    assert np.mean([np.array_equal(each, grey) for each in greys]) == pytest.approx(1 / 4, abs=0.07)
    means = greys.mean((1, 2, 3)) - grey.mean()
    assert -0.5 * grey.mean() - 33 <= means.min() and means.max() <= 0.5 * grey.mean() + 49


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("brightness", -32, 32), ("contrast", -50, 50), ("saturation", -45, 45), ("hue", -18, 17)],
)
def test_each_distortion_has_the_published_range(kind, least, most):
    off = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0)
    distort = PhotoMetricDistortion(**{**off, kind: {"brightness": 32, "hue": 18}.get(kind, 0.5)})
    # Of value 100 and saturation 90, in the middle of a sixth of the circle.
    image = cv2.cvtColor(np.full((1, 1, 3), (45, 90, 100), np.uint8), cv2.COLOR_HSV2RGB)
    shown = [distort(image, seeding.generator("test", n)) for n in range(800)]
    place = {"hue": 0, "saturation": 1}.get(kind, 2)
    moved = np.array([int(cv2.cvtColor(each, cv2.COLOR_RGB2HSV)[0, 0, place]) for each in shown]) - (45, 90, 100)[place]
    slack = 4 if kind in ("hue", "saturation") else 1  # 8-bit HSV of a pixel is coarse
    assert least - slack <= moved.min() <= least + 2 * slack
    assert most - 2 * slack <= moved.max() <= most + slack
    assert np.mean(np.abs(moved) <= 1) > 0.4


def test_only_the_source_only_baseline_sees_distorted_colours(worlds, tmp_path):
    def first(adapts: bool, *overrides: str) -> Tensor:
        config = tiny.load(worlds, tmp_path, "image", *overrides)
        stream = tiny.compose(config, runtime.start("no")).batches.batches(adapts)(0)
        return torch.cat([next(stream)[0].image for _ in range(4)])

    plain = first(False)
    assert torch.equal(first(True, "source.photometric=true"), plain)
    distorted = first(False, "source.photometric=true")
    assert distorted.shape == plain.shape and not torch.equal(distorted, plain)


def test_draws_of_a_config_are_those_it_names(worlds, tmp_path):
    def batch(*overrides: str) -> list[int]:
        config = tiny.load(worlds, tmp_path, "image", "training.batch=12", *overrides)
        run = tiny.compose(config, runtime.start("no"))
        assert run.data.source().transform.tries == (11 if overrides else 10)
        _, target = next(run.batches.batches(adapts=True)(0))
        return len(set(target.name))

    assert batch() == 12
    assert batch("data.draws=published") < 12


def test_clips_and_evaluation_keep_the_ratio_with_their_flow(worlds, tmp_path):
    kept = ("target.resize=[48,80]", "target.keep_ratio=true", "evaluation.size=[48,80]", "evaluation.keep_ratio=true")
    named = ("target.resize=[40,80]", "evaluation.size=[40,80]")
    clips = []
    for overrides in (kept, named):
        run = tiny.compose(tiny.load(worlds, tmp_path, "video", *overrides), runtime.start("no"))
        _, target = next(run.batches.batches(adapts=True)(0))
        clips.append((target, run.data.evaluation()[0]))
        assert not any(
            problem.fatal for report in examine(run.data, ["blda"], CheckScope(opened=2)) for problem in report.problems
        )
    for one, other in zip(*clips, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.flow, other.flow) and torch.equal(one.valid, other.valid)
    assert clips[0][1].image.shape[-2:] == (40, 80)


def test_both_domains_are_masked_in_turn():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (2, 8, 8), generator=generator)
    source = Sample(torch.rand(2, 3, 8, 8, generator=generator), label, ("a", "b"), (4, 5))
    target = Sample(torch.rand(2, 3, 8, 8, generator=generator), None, ("c", "d"), (4, 5))
    pseudo = PseudoLabels(torch.zeros_like(label), torch.full((2, 8, 8), 0.25))
    net = torch.nn.Conv2d(3, 4, 1)
    masked = MaskedConsistency(BlockMask(unchanged, 0, 4, 0.0), PlainLoss(), both=True)
    seen = torch.stack((source.image[0], target.image[1]))
    weight = torch.stack((torch.ones(8, 8), pseudo.weight[1]))
    expected = cross_entropy(net(seen), torch.stack((label[0], pseudo.label[1])), weight)
    torch.testing.assert_close(masked(net, target, pseudo, source), expected)


@pytest.mark.parametrize("name", KINDS)
def test_benchmarks_take_what_is_published_and_own_data_do_not(name):
    config = loading.load(CONFIGS / f"{name}.yaml", KINDS[name])
    settings, data = config.self_training, config.data
    taken = [
        *(each.keep_ratio for each in (config.source, config.target, config.evaluation)),
        config.source.photometric,
        settings.augment == "published",
        settings.classmix == "per_batch",
        data.draws == "published",
        data.label_resize == "nearest",
    ]
    assert set(taken) == {name in (*IMAGES, *VIDEO)}


def test_mic_of_adverse_conditions_is_the_published_one():
    variant = [str(CONFIGS / "variants" / "mic_adverse.yaml")]
    for name in ("cs2acdc", "cs2darkzurich"):
        settings = loading.load(CONFIGS / f"{name}.yaml", Config, variant).self_training
        masked = settings.masked
        assert (masked.block, masked.ratio, masked.domains, masked.jitter) == (64, 0.7, "both", False)
        assert (settings.margins, settings.ignore_top, settings.ignore_bottom) == (None, 0, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("self_training.augment=kornia", "self_training.augment is 'kornia'; use per_image or published"),
        ("self_training.classmix=batch", "self_training.classmix is 'batch'; use per_image or per_batch"),
        ("data.draws=random", "data.draws is 'random'; use epochs or published"),
        ("data.label_resize=exact", "data.label_resize is 'exact'; use nearest_exact or nearest"),
        ("self_training.masked={domains: source}", "self_training.masked.domains is 'source'; use target or both"),
    ],
)
def test_a_choice_that_is_none_is_refused_with_those_there_are(override, message):
    with pytest.raises(ValueError, match=message):
        loading.load(CONFIGS / "gta2cs.yaml", Config, [override])


def test_the_parts_of_a_run_are_the_published_ones():
    config = loading.load(CONFIGS / "gta2cs.yaml", Config)
    run = image_run(config, runtime.start("no"))
    assert isinstance(run.adaptation.jitter(0), PublishedColourAndBlur)
    assert run.adaptation.mixer(config).choose is chosen_classes_of_batch
    assert run.data.readers.resize("source")((1052, 1914)) == (704, 1280)
    assert not run.data.readers.resize("source").nearest_exact
