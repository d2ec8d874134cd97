import cv2
import numpy as np
import pytest
import torch

from blda.data.draws import Draw
from blda.data.readers.remarks import collecting
from blda.data.transforms import RandomCrop
from blda_video.clips.clip_dataset import ClipDataset, EvaluationClips
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.flow.flow_formats import FLO_TAG, read_flow
from blda_video.flow.published_flow import PublishedFlow

SIZE = (40, 48)


def vectors(height=9, width=13, scale=20.0):
    return (scale * np.random.default_rng(0).standard_normal((2, height, width))).astype(np.float32)


def write_kitti(path, flow, known=None):
    known = np.ones(flow.shape[1:], np.uint16) if known is None else known.astype(np.uint16)
    u, v = (np.round(flow * 64) + 2**15).astype(np.uint16)
    cv2.imwrite(str(path), np.stack((known, v, u), -1))  # OpenCV writes blue, green, red


def write_flo(path, flow):
    height, width = flow.shape[1:]
    head = np.float32(FLO_TAG).tobytes() + np.array([width, height], "<i4").tobytes()
    path.write_bytes(head + flow.transpose(1, 2, 0).astype("<f4").tobytes())


def write_npy(path, flow):
    np.save(path, np.round(flow * 10).astype(np.int16).transpose(1, 2, 0))


def write_npz(path, flow):
    np.savez_compressed(path, u=flow[0].astype(np.float16), v=flow[1].astype(np.float16))


WRITERS = {
    ".png": (write_kitti, 1 / 128),
    ".flo": (write_flo, 0),
    ".npy": (write_npy, 0.0501),
    ".npz": (write_npz, 0.04),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_is_read_to_its_precision(tmp_path, suffix):
    write, precision = WRITERS[suffix]
    write(tmp_path / f"a{suffix}", vectors())
    read = read_flow(tmp_path / f"a{suffix}")
    assert read.shape == (2, 9, 13) and read.dtype == torch.float32
    assert (read - torch.from_numpy(vectors())).abs().max() <= precision


def test_known_values_and_axes(tmp_path):
    flow = np.zeros((2, 2, 3), np.float32)
    flow[:, 1, 2] = (1.5, -0.5)  # to the right and up, at row 1, column 2
    for suffix, (write, _) in WRITERS.items():
        write(tmp_path / f"a{suffix}", flow)
        assert torch.equal(read_flow(tmp_path / f"a{suffix}"), torch.from_numpy(flow)), suffix


def test_what_a_file_marks_as_unknown_is_nan(tmp_path):
    known = np.ones((9, 13), bool)
    known[2:4, 5] = False
    write_kitti(tmp_path / "a.png", vectors(), known)
    huge = vectors()
    huge[0, 2, 5], huge[1, 3, 5] = 1.6e9, np.nan
    write_flo(tmp_path / "a.flo", huge)
    half = vectors()
    half[0, 2, 5], half[1, 3, 5] = np.inf, np.nan
    write_npz(tmp_path / "a.npz", half)
    for name in ("a.png", "a.flo", "a.npz"):
        assert torch.equal(read_flow(tmp_path / name).isnan(), ~torch.from_numpy(known).expand(2, 9, 13)), name


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_files_are_named(tmp_path, suffix, damage):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix][0](path, vectors(40, 50))
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) * 2 // 3], "empty": b"", "text": b"hello, flow"}[damage])
    with pytest.raises(ValueError, match=rf"a\{suffix}.*download or compute it again"):
        read_flow(path)


def test_other_contents_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 13, 3), np.uint8))
    np.save(tmp_path / "a.npy", np.zeros((9, 13, 2), np.float32))
    np.savez(tmp_path / "a.npz", flow=np.zeros((9, 13, 2)))
    write_flo(tmp_path / "a.flo", np.full((2, 9, 13), np.nan, np.float32))
    for name, fault in (
        ("a.png", "16 bits"),
        ("a.npy", "int16"),
        ("a.npz", "no array 'u'"),
        ("a.flo", "no finite vector"),
    ):
        with pytest.raises(ValueError, match=rf"{name}.*{fault}"):
            read_flow(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"b\.flo"):
        read_flow(tmp_path / "b.flo")
    with pytest.raises(ValueError, match=r"a\.exr has no known format"):
        read_flow(tmp_path / "a.exr")


def test_published_names():
    city, next_city = "train/aachen/aachen_000000_000019", "train/aachen/aachen_000000_000018"
    viper, next_viper = "train/001/001_00010", "train/001/001_00009"
    for files, names, expected in (
        ("{key}_{number}_int16_x10.npy", (city, next_city), "aachen_000000_000019_000018_int16_x10.npy"),
        ("{key}{number}_int16_x10.npy", (viper, next_viper), "001_0001000009_int16_x10.npy"),
        ("{folder}/{key}_{neighbour}.flo", (viper, next_viper), "train/001/001_00010_001_00009.flo"),
    ):
        assert PublishedFlow("flow", files).path(*names).as_posix() == f"flow/{expected}"
    own = PublishedFlow("flow", "{parent}/{key}.npz", offset=1)
    assert own.path(viper, next_viper).as_posix() == "flow/001/001_00010.npz"
    own.require((1,))
    with pytest.raises(ValueError, match=r"lead to offset \+1, not -1"):
        own.require((-1, 1))


@pytest.mark.parametrize(
    ("files", "keywords", "fault"),
    [
        ("{key}_{next}.npy", {}, "unknown field {next}"),
        ("{number}.npy", {}, "no field {key}"),
        ("{key}_{number}.exr", {}, "no known format"),
        ("{key}.npy", {}, "does not name the neighbour"),
        ("{key}.npy", {"offset": -1, "both_ways": True}, "both_ways"),
    ],
)
def test_patterns_that_find_nothing_are_refused(files, keywords, fault):
    with pytest.raises(ValueError, match=fault):
        PublishedFlow("flow", files, **keywords)


@pytest.fixture
def film(tmp_path):
    (tmp_path / "images/a").mkdir(parents=True)
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"images/a/{t:02d}.png"), np.full((*SIZE, 3), 50 * t, np.uint8))
    return FolderSequence(tmp_path / "images", image_suffix=".png", labelled=False)


def published(root, both_ways=False):
    root.mkdir()
    for key, other, u in (("01", "00", 3.0), ("02", "01", 3.0), ("00", "01", -9.0), ("01", "02", -9.0)):
        if u > 0 or both_ways:
            flow = np.stack((np.full(SIZE, u), np.zeros(SIZE))).astype(np.float32)
            flow[:, 4, 5] = np.nan if u > 0 else 0
            write_flo(root / f"{key}_{other}.flo", flow)
    return PublishedFlow(root, "{key}_{number}.flo", both_ways=both_ways)


def test_published_flow_of_one_way_is_valid_inside_the_neighbour(tmp_path, film):
    clip = EvaluationClips(film, None, None, (-1,), published(tmp_path / "flow"))[1]
    expected = torch.ones(SIZE, dtype=torch.bool)
    expected[:, -3:] = expected[4, 5] = False  # outside, and unknown
    assert torch.equal(clip.valid[0, 0], expected)
    assert (clip.flow[0, 0, 0, expected] == 3).all() and clip.flow.isfinite().all()


def test_published_flow_of_both_ways_is_checked(tmp_path, film):
    clip = EvaluationClips(film, None, None, (-1,), published(tmp_path / "flow", both_ways=True))[1]
    assert not clip.valid.any()  # 3 px there and 9 px back disagree


def test_published_flow_follows_crop_and_mirror(tmp_path, film):
    data = ClipDataset(film, None, RandomCrop((80, 96), (32, 64)), 0, (-1,), published(tmp_path / "flow"))
    seen = {round(float(data[Draw(1, number)].flow[0, 0, 0].median())) for number in range(12)}
    assert seen == {6, -6}  # twice as large, and mirrored in some draws


def test_missing_and_unequal_published_flow_is_named(tmp_path, film):
    store = published(tmp_path / "flow")
    data = EvaluationClips(film, None, None, (-1,), store)
    write_flo(tmp_path / "flow/01_00.flo", np.zeros((2, 20, 24), np.float32))
    with pytest.raises(ValueError, match=r"01_00\.flo is \(20, 24\) but its images are \(40, 48\)"):
        data[1]
    (tmp_path / "flow/01_00.flo").unlink()
    with pytest.raises(FileNotFoundError, match=r"01_00\.flo"):
        data[1]
    assert not store.has("a/01", "a/00") and store.has("a/02", "a/01")


def write_png(path, red, green, blue):
    assert cv2.imwrite(str(path), np.dstack((blue, green, red)).astype(np.uint16))
    return path


def test_a_png_means_what_the_keyword_says(tmp_path):
    red, green, blue = np.full((9, 11), 40000), np.full((9, 11), 20000), np.ones((9, 11))
    blue[3, 4] = 0
    path = write_png(tmp_path / "a.png", red, green, blue)
    expected = {
        "kitti": ((40000 - 2**15) / 64, (20000 - 2**15) / 64),
        256: ((40000 - 2**15) / 256, (20000 - 2**15) / 256),
        "vkitti2": ((2 * 40000 / 65535 - 1) * 10, (2 * 20000 / 65535 - 1) * 8),
    }
    for png, (u, v) in expected.items():
        with collecting():
            found = read_flow(path, png)
        assert found.dtype == torch.float32 and found[:, 3, 4].isnan().all()
        assert found[:, 0, 0].tolist() == pytest.approx([u, v], rel=1e-5)
    for png in ("middlebury", 0, -64, True, 2**16):
        with pytest.raises(ValueError, match=r"flow\.png is .*; give kitti, vkitti2, or the steps"):
            PublishedFlow(tmp_path, "{key}_{number}.png", png=png)


def test_published_flow_hands_the_meaning_on(tmp_path):
    write_png(tmp_path / "01_00.png", np.full((9, 11), 2**15 + 512), np.full((9, 11), 2**15), np.ones((9, 11)))
    read = PublishedFlow(tmp_path, "{key}_{number}.png", png=256).read("a/01", "a/00")
    assert (read[0, 0] == 2).all() and (read[0, 1] == 0).all()


def test_vectors_longer_than_the_frame_are_told(tmp_path):
    path = write_png(tmp_path / "a.png", np.full((9, 11), 2**15 + 64 * 12), np.full((9, 11), 2**15), np.ones((9, 11)))
    with collecting() as remarks:
        read_flow(path)
    assert [f"{path}: 100% of its vectors are longer than the frame" in text for text in remarks] == [True]
    with collecting() as remarks:
        read_flow(path, 640)
    assert not remarks
