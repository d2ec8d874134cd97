"""Video files: frame i is frame i, whatever the file; and what is said of files that cannot be read."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blda_video.clips.video_files import video_file
from blda_video.clips.video_files.video_decoders import PyAVDecoder
from blda_video.clips.video_files.video_file import OpenVideos, VideoFile
from blda_video.clips.video_files.video_index import read_index
from numbered_video import av, number, start_at, turn, write, write_mp4v

CLOSED = "keyint=24:min-keyint=24:scenecut=0:bframes=3:open-gop=0"
OPEN = "keyint=24:min-keyint=24:scenecut=0:bframes=3:open-gop=1"
UNEVEN = np.cumsum(np.random.default_rng(0).integers(10, 50, 100)).tolist()
HEVC = {"codec": "libx265"}
Kind = tuple[str, dict]

KINDS: dict[str, Kind] = {
    "h264 closed": ("a.mp4", {"parameters": CLOSED}),
    "h264 open": ("a.mp4", {"parameters": OPEN}),
    "h264 one group": ("a.mov", {"parameters": "keyint=250:bframes=3"}),
    "h264 uneven, closed": ("a.mov", {"parameters": CLOSED, "times": UNEVEN}),
    "h264 uneven, open": ("a.mp4", {"parameters": OPEN, "times": UNEVEN}),
    "h264 refreshed bit by bit": ("a.mp4", {"parameters": "keyint=24:intra-refresh=1:bframes=0"}),
    "hevc closed": ("a.mp4", {**HEVC, "parameters": f"{CLOSED}:log-level=none"}),
    "hevc open": ("a.mp4", {**HEVC, "parameters": f"{OPEN}:log-level=none"}),
    "mpeg4 with B-frames": ("a.mp4", {"codec": "mpeg4", "g": "12", "bf": "2"}),
    "matroska open": ("a.mkv", {"parameters": OPEN}),
    "transport stream": ("a.ts", {"parameters": CLOSED}),
    "program stream": ("a.mpg", {"codec": "mpeg2video", "g": "12", "bf": "2"}),
    "avi": ("a.avi", {"codec": "mpeg4", "g": "12"}),
}


def in_disorder(length: int) -> list[int]:
    return random.Random(0).sample(range(length), length)


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_the_one_asked_for(kind: str, tmp_path: Path) -> None:
    name, options = KINDS[kind]
    path = write(tmp_path / name, **options)
    video = VideoFile(path)
    assert len(video) == 100
    with av.open(str(path)) as file:
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    for i in in_disorder(100):
        assert number(video.read(i)) == i
        assert np.array_equal(video.read(i), decoded[i]), "the same as decoding from the start"
    if "times" in options:
        assert [video.index.seconds(i) for i in range(100)] == pytest.approx([(t - UNEVEN[0]) / 600 for t in UNEVEN])


def test_opencv_files(tmp_path: Path) -> None:
    video = VideoFile(write_mp4v(tmp_path / "a.mp4"))
    assert [number(video.read(i)) for i in in_disorder(100)] == in_disorder(100)


@pytest.mark.parametrize("parameters", [CLOSED, OPEN])
def test_what_an_edit_list_hides_is_no_frame(parameters: str, tmp_path: Path) -> None:
    video = VideoFile(start_at(write(tmp_path / "a.mp4", parameters=parameters), 30))
    assert len(video) == 70
    assert [number(video.read(i)) for i in in_disorder(70)] == [30 + i for i in in_disorder(70)]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright_alike(degrees: int, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.mp4", 3)
    expected = np.rot90(VideoFile(plain).read(1), -degrees // 90)
    path = turn(plain, degrees)
    index = read_index(path)
    assert np.array_equal(PyAVDecoder(path, index).frame(1), expected)


def test_time_to_frame(tmp_path: Path) -> None:
    index = VideoFile(write(tmp_path / "a.mp4", times=UNEVEN)).index
    for i in (0, 1, 57, 99):
        assert index.nearest(index.seconds(i)) == i
        assert index.nearest(index.seconds(i) + 0.004) == i
    assert index.nearest(1e9) == 99


def test_without_pyav_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"PyAV.*pip install av"):
        len(VideoFile(tmp_path / "a.mp4"))


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def whole(folder: Path) -> Path:
    return write(folder / "a.mp4", parameters=CLOSED)


def leading_table(folder: Path) -> Path:
    """As streaming sites write them: what the file holds stands before the frames."""
    with av.open(str(folder / "b.mp4"), "w", options={"movflags": "faststart"}) as copy, av.open(whole(folder)) as file:
        stream = copy.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return folder / "b.mp4"


def silence(folder: Path) -> Path:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return folder / "a.wav"


def text(folder: Path) -> Path:
    (folder / "a.mp4").write_text("no video at all")
    return folder / "a.mp4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: cut(whole(folder), 0), "is empty"),
        (lambda folder: cut(whole(folder), 0.5), "Invalid data.*copy or download it again"),
        (lambda folder: cut(leading_table(folder), 0.7), "cut off after [0-9]+ frames"),
        (text, "Invalid data"),
        (silence, "holds no video"),
    ],
)
def test_what_is_no_whole_video(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        VideoFile(path).read(0)


def test_missing_files_and_frames(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no video .*a\.mp4; check"):
        len(VideoFile(tmp_path / "a.mp4"))
    video = VideoFile(whole(tmp_path))
    for i in (-1, 100):
        with pytest.raises(ValueError, match=rf"no frame {i} in .*a\.mp4, which has 100"):
            video.read(i)
    video.path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"a\.mp4"):
        VideoFile(video.path).read(3)


@pytest.mark.parametrize("parameters", [CLOSED, OPEN])
def test_damaged_frames_are_an_error_and_never_another_frame(parameters: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", parameters=parameters)
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][60]
    data = bytearray(path.read_bytes())
    data[packet.pos : packet.pos + 4] = b"\xff" * 4  # the length of what follows
    path.write_bytes(data)
    video, failed = VideoFile(path), []
    for i in range(48, 80):
        try:
            assert number(video.read(i)) == i
        except ValueError as error:
            assert f"frame {i} of {path}: " in str(error) and "github" not in str(error)
            failed.append(i)
    assert set(range(61, 70)) <= set(failed) <= set(range(48, 74))


def test_a_file_that_another_one_replaces_is_another_video(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 5)
    kept = VideoFile(path).read(3)
    turn(path, 180)
    assert number(np.rot90(VideoFile(path).read(3), 2)) == 3
    assert not np.array_equal(VideoFile(path).read(3), kept)


def test_few_files_stay_open(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.mp4", 5) for i in range(4)]
    indices = [read_index(path) for path in paths]
    videos = OpenVideos()
    for i in in_disorder(4) * 3:
        assert number(videos.read(paths[i], indices[i], i)) == i
        assert len(videos._open) <= video_file.OPEN


def test_frames_that_are_kept_cannot_be_changed(tmp_path: Path) -> None:
    video = VideoFile(write(tmp_path / "a.mp4", 5))
    assert not video.read(3).flags.writeable
    assert video.read(3) is video.read(3)


def _read(video: VideoFile, found: multiprocessing.Queue) -> None:
    found.put([number(video.read(i)) for i in (60, 3)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("parameters", [CLOSED, OPEN])
def test_a_child_of_a_process_with_open_files_reads(parameters: str, method: str, tmp_path: Path) -> None:
    video = VideoFile(write(tmp_path / "a.mp4", parameters=parameters))
    assert number(video.read(50)) == 50
    context = multiprocessing.get_context(method)
    found = context.Queue()
    child = context.Process(target=_read, args=(video, found), daemon=True)
    child.start()
    assert found.get(timeout=30) == [60, 3]
    child.join(30)
    assert child.exitcode == 0
    assert number(video.read(51)) == 51


def test_pickles_small_and_without_decoder(tmp_path: Path) -> None:
    video = VideoFile(write(tmp_path / "a.mp4"))
    video.read(7)
    data = pickle.dumps(video)
    assert len(data) < 4000
    assert number(pickle.loads(data).read(8)) == 8
