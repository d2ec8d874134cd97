"""Headers are looked at before pixels: orientation, end of the image, size, compression, range."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from blda.data.label_map import label_lookup
from blda.data.readers.decoding import read_colour_ids, read_ids, read_image, read_red_ids
from blda.data.readers.frames import Frame
from blda.data.readers.headers import LARGEST
from blda.data.readers.remarks import collecting
from blda.data.segmentation_dataset import read_frame

SOFT = np.asarray(Image.linear_gradient("L").resize((48, 32)))
"""No two rows alike, and nothing that JPEG would change much."""
PICTURE = np.dstack((SOFT, 255 - SOFT, np.repeat(np.linspace(0, 255, 48, dtype=np.uint8)[None], 32, 0)))
FORMATS = {"jpg": {"quality": 98, "subsampling": 0}, "png": {}, "webp": {"lossless": True}}


def tagged(path: Path, pixels: np.ndarray, orientation: int, **options: object) -> Path:
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def hollow_png(path: Path, width: int, height: int, bits: int = 8) -> Path:
    """A PNG of a few bytes whose header asks for any size."""
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_viewers_show_them(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = tagged(tmp_path / f"a.{suffix}", PICTURE, orientation, **FORMATS[suffix])
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    found = read_image(path)
    assert found.shape == shown.shape and found.flags.c_contiguous
    assert np.abs(found - shown).max() <= 4


def test_a_label_is_turned_with_its_image_or_is_upright_already(tmp_path: Path) -> None:
    ids = (np.arange(32 * 48).reshape(32, 48) % 3).astype(np.uint8)
    table = label_lookup({0: "a", 1: "b", 2: "c"}, (), ("a", "b", "c"))

    class Reader:
        def read_label(self, path: Path) -> np.ndarray:
            return read_ids(path)

    image = tagged(tmp_path / "a.jpg", PICTURE, 6)
    both = tagged(tmp_path / "both.png", ids, 6)
    assert np.array_equal(read_frame(Reader(), table, Frame("a", image, both))[1], np.rot90(ids, 3))
    upright = tmp_path / "upright.png"
    Image.fromarray(np.ascontiguousarray(np.rot90(ids, 3))).save(upright)
    assert np.array_equal(read_frame(Reader(), table, Frame("a", image, upright))[1], np.rot90(ids, 3))
    other = tagged(tmp_path / "other.png", np.ascontiguousarray(np.rot90(ids, 1)), 3)
    with pytest.raises(ValueError, match=r"label .*other\.png has EXIF orientation 3 but its image .*a\.jpg 6; save"):
        read_frame(Reader(), table, Frame("a", image, other))


def tiff(path: Path, bands: np.ndarray, extra: int | None) -> Path:
    """A TIFF of (H, W, N) bytes, its channels interleaved; extra: kind of the fourth, 0 unknown, 2 alpha."""
    height, width, count = bands.shape
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 0), (277, count), (278, height)]
    tags += [(279, bands.size), *([] if extra is None else [(338, extra)])]
    behind = 8 + 2 + 12 * len(tags) + 4
    values = {258: (count, behind), 273: (1, behind + 2 * count)}
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag == 273 else 3, *values[tag])
        if tag in values
        else struct.pack("<HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(head + struct.pack("<H", 8) * count + bands.tobytes())
    return path


@pytest.mark.parametrize(("count", "extra"), [(4, None), (4, 0), (4, 2), (5, None), (8, None)])
def test_channels_beyond_colour_are_refused(count: int, extra: int | None, tmp_path: Path) -> None:
    bands = np.dstack((PICTURE, *[SOFT] * (count - 3)))
    message = rf"bands\.tif has {count} channels, but networks here read red, green and blue; save these three"
    with pytest.raises(ValueError, match=message):
        read_image(tiff(tmp_path / "bands.tif", bands, extra))


def test_alpha_is_left_out_and_inks_become_colours(tmp_path: Path) -> None:
    Image.fromarray(np.dstack((PICTURE, SOFT))).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)
    Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / "e.tif")
    assert np.abs(read_image(tmp_path / "e.tif").astype(int) - PICTURE).max() <= 4
    assert np.array_equal(read_image(tiff(tmp_path / "f.tif", PICTURE, None)), PICTURE)


GREY = Image.fromarray(SOFT)
INDEXED = GREY.quantize(8)


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        *((f"grey.{suffix}", GREY) for suffix in ("png", "tif", "bmp")),
        *((f"alpha.{suffix}", Image.merge("LA", (GREY, GREY))) for suffix in ("png", "tif")),
        ("binary.png", GREY.point(lambda value: 255 * (value > 99), "1")),
        *((f"indexed.{suffix}", INDEXED) for suffix in ("png", "gif", "tif", "bmp")),
    ],
)
def test_grey_and_indexed_images_become_colours(name: str, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / name)
    shown = picture.getchannel("L") if picture.mode == "LA" else picture
    assert np.array_equal(read_image(tmp_path / name), np.asarray(shown.convert("RGB")))


def test_a_grey_jpeg_has_three_equal_channels(tmp_path: Path) -> None:
    GREY.save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (*SOFT.shape, 3)
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - SOFT).max() <= 8


def test_orientation_of_a_tiff_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.tif is a TIFF with an orientation.*save it upright"):
        read_image(tagged(tmp_path / "a.tif", PICTURE, 3))


@pytest.mark.parametrize("extra", [b"\0" * 70000, random.Random(0).randbytes(50000), b"PK\x03\x04" + b"x" * 9000])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_other_data_behind_the_end_do_no_harm(suffix: str, extra: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PICTURE).save(path)
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + extra)
    assert np.array_equal(read_image(path), whole)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_what_ends_before_the_image_is_an_error(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PICTURE).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for read in (read_image, read_red_ids):
        with pytest.raises(ValueError, match=rf"cannot read .*a\.{suffix}: .*(cut off|not a complete image); download"):
            read(path)


def test_a_missing_middle_is_an_error_and_doubt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + data[2 * len(data) // 3 :])
    with pytest.raises(ValueError, match=r"cannot read .*a\.jpg: Corrupt JPEG data: premature end"):
        read_image(path)
    path.write_bytes(data[:-2] + bytes(range(1, 9)) + data[-2:])
    with collecting() as remarks:
        read_image(path)
    assert [f"image {path} may be damaged" in text for text in remarks] == [True]


@pytest.mark.parametrize("read", [read_image, read_ids, read_red_ids, lambda path: read_colour_ids(path, [(0, 0, 0)])])
def test_size_is_looked_at_before_pixels(read: object, tmp_path: Path) -> None:
    path = hollow_png(tmp_path / "a.png", 30000, 30000)
    with pytest.raises(
        ValueError, match=rf"cannot read .*a\.png: it has 30000 x 30000 pixels, more than {LARGEST}; cut"
    ):
        read(path)


def test_a_label_may_be_as_large_as_its_image(tmp_path: Path) -> None:
    Image.new("1", (14000, 13000)).save(tmp_path / "a.png")
    assert read_ids(tmp_path / "a.png").shape == (13000, 14000)


LOSSY = {
    "a.jpg": {"format": "JPEG"},
    "named.png": {"format": "JPEG"},
    "a.webp": {"format": "WEBP"},
    "a.tif": {"format": "TIFF", "compression": "jpeg"},
}


@pytest.mark.parametrize("name", LOSSY)
def test_labels_with_lossy_compression_are_named_as_that(name: str, tmp_path: Path) -> None:
    Image.fromarray(SOFT).save(tmp_path / name, **LOSSY[name])
    for read in (read_ids, read_red_ids, lambda path: read_colour_ids(path, [(0, 0, 0)])):
        with pytest.raises(ValueError, match=rf"label .*{name} is compressed as .*changes ids; save labels as PNG"):
            read(tmp_path / name)


def test_sixteen_bits_are_the_upper_eight_or_an_error(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (8, 9, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert np.array_equal(read_image(tmp_path / "a.png"), (values >> 8)[..., ::-1])
    cv2.imwrite(str(tmp_path / "b.png"), values >> 4)
    with pytest.raises(ValueError, match=r"b\.png has 16 bits a channel but no value above 40[0-9]+.*scale it"):
        read_image(tmp_path / "b.png")
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros_like(values))
    assert not read_image(tmp_path / "c.png").any()
    Image.fromarray(np.ones((8, 9), np.float32)).save(tmp_path / "d.tif")
    with pytest.raises(ValueError, match=r"d\.tif: it holds floating-point numbers"):
        read_image(tmp_path / "d.tif")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_damage_of_any_kind_is_one_line_with_the_file(suffix: str, tmp_path: Path) -> None:
    path, draw = tmp_path / f"a.{suffix}", random.Random(0)
    Image.fromarray(PICTURE).save(path)
    data = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 3, 20))):
            damaged[draw.randrange(min(len(damaged), 600))] = draw.randrange(256)
        path.write_bytes(damaged)
        for read in (read_image, read_ids, read_red_ids):
            try:
                read(path)
            except ValueError as error:
                assert str(path) in str(error) and "\n" not in str(error)
