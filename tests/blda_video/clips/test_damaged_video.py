"""Damage in a video file is found out: no frame that looks back at it is handed on as whole."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from blda.data.readers.remarks import collecting
from blda_video.clips.video_files.video_decoders import Damaged, PyAVDecoder
from blda_video.clips.video_files.video_file import VideoFile
from blda_video.clips.video_files.video_index import read_index
from numbered_video import av, write

GROUPS = "keyint=24:min-keyint=24:scenecut=0:bframes=3:open-gop="
KINDS = {
    "closed groups": ("a.mp4", {"parameters": f"{GROUPS}0"}),
    "open groups": ("a.mkv", {"parameters": f"{GROUPS}1"}),
    "refreshed bit by bit": ("a.mp4", {"parameters": "keyint=24:intra-refresh=1:bframes=0"}),
    "mpeg4": ("a.mp4", {"codec": "mpeg4", "g": "12", "bf": "2"}),
    "mpeg2": ("a.mkv", {"codec": "mpeg2video", "g": "12", "bf": "2"}),
}
FRAMES = 60


def spoil(path: Path, packet: int, share: float = 0.3) -> int:
    """Overwrite the middle of a packet, counted in order of decoding; returns its place in the order shown."""
    with av.open(str(path)) as file:
        packets = [each for each in file.demux(video=0) if each.size]
    chosen = packets[packet]
    start = chosen.pos + int(chosen.size * (1 - share) / 2)
    data = bytearray(path.read_bytes())
    length = max(int(chosen.size * share), 8)
    data[start : start + length] = random.Random(packet).randbytes(length)
    path.write_bytes(data)
    return sorted(each.pts for each in packets).index(chosen.pts)


def decoded(path: Path, order: list[int]) -> dict[int, np.ndarray]:
    """The frames that are handed on, by number."""
    decoder, found = PyAVDecoder(path, read_index(path)), {}
    for i in order:
        try:
            found[i] = decoder.frame(i)
        except Damaged as error:
            assert f"frame {i} cannot be decoded" in str(error)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packet", [0, 24, 31, 40, 58])
def test_what_is_handed_on_is_what_the_whole_file_shows(kind: str, packet: int, tmp_path: Path) -> None:
    name, options = KINDS[kind]
    path = write(tmp_path / name, FRAMES, size=(128, 192), **options)
    whole = decoded(path, list(range(FRAMES)))
    assert len(whole) == FRAMES
    hurt = spoil(path, packet)
    orders = list(range(FRAMES)), random.Random(1).sample(range(FRAMES), FRAMES)
    for found in (decoded(path, order) for order in orders):
        wrong = [i for i in found if np.abs(found[i].astype(int) - whole[i]).mean() > 0.5]
        assert wrong == []
        assert hurt not in found or np.array_equal(found[hurt], whole[hurt])
        # A refresh bit by bit has no key frame that ends the damage.
        assert kind.startswith("refreshed") or len(found) >= FRAMES - 2 * 24


def test_the_frames_before_and_behind_the_damaged_group_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", FRAMES, size=(128, 192), parameters=f"{GROUPS}0")
    hurt = spoil(path, 31)
    video, told = VideoFile(path), []
    for i in range(FRAMES):
        try:
            video.read(i)
        except ValueError as error:
            assert f"cannot read frame {i} of {path}: " in str(error) and "copy or download it again" in str(error)
            told.append(i)
    assert hurt in told and set(told) <= set(range(24, 48))
    assert f"the file is damaged at frame {hurt}" in _message(video, 47)


def _message(video: VideoFile, i: int) -> str:
    with pytest.raises(ValueError) as error:
        video.read(i)
    return str(error.value)


@pytest.mark.parametrize("full", [False, True])
def test_colours_are_read_in_the_range_that_the_file_says(full: bool, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        for _ in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.color_range = 2 if full else 1
            for plane, value in zip(frame.planes, (235, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert np.abs(VideoFile(tmp_path / "a.mp4").read(2).astype(int) - (235 if full else 255)).max() <= 2


@pytest.mark.parametrize("name", ["a.avi", "a.ts"])
def test_frames_that_a_container_lost_are_told(name: str, tmp_path: Path) -> None:
    options = {"codec": "mpeg4", "g": "12"} if name == "a.avi" else {"parameters": f"{GROUPS}0"}
    path = write(tmp_path / name, FRAMES, size=(128, 192), **options)
    with collecting() as remarks:
        assert len(read_index(path)) == FRAMES and not remarks
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, stop = packets[30].pos - 8, packets[34].pos - 8
    data[start:stop] = random.Random(0).randbytes(stop - start)
    path.write_bytes(data)
    with collecting() as remarks:
        assert len(read_index(path)) < FRAMES
    assert [f"video {path} lacks about" in text for text in remarks] == [True]
