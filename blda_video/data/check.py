"""Looking into a data set of clips: as of images, with the neighbours of every key frame and the stored flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from blda.data import check as image
from blda.data.check import Extent, Role, Seen, spread
from blda.data.dataset import read_frame
from blda.data.frames import Frame
from blda.data.report import DataReport, Problem
from blda_video.data.clip import ClipDataset, EvaluationClips, Surroundings, VideoReader
from blda_video.flow.store import StoredFlow

FARTHEST = 30
"""Frames farther off than a missing neighbour in which its video is looked for."""

Clips = ClipDataset | EvaluationClips


@dataclass(frozen=True)
class Neighbours:
    """Key frames and their neighbour at one offset: so many have it, lie at an end of their video, beside a gap.

    At an end a clip goes without, as documented. gaps: names of key frames whose video goes on behind the gap.
    """

    offset: int
    found: int
    ends: int
    gaps: tuple[str, ...]


@dataclass(frozen=True)
class ClipReport(DataReport):
    """A data set of clips. flows: stored flows that its clips need; missing: paths of those that are not there."""

    neighbours: tuple[Neighbours, ...] = ()
    flows: int = 0
    missing: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """As of images, with neighbours and flow."""
        facts = super().facts()
        for item in self.neighbours:
            end = "first" if item.offset < 0 else "last"
            text = f"{item.found} found; without: {item.ends} at the {end} frames of a video, {len(item.gaps)} in gaps"
            facts.append((f"neighbours at {item.offset:+d}", text))
        if self.flows:
            facts.append(("stored flow", f"{self.flows - len(self.missing)} of {self.flows}"))
        return facts


def check(role: Role, extent: Extent) -> DataReport:
    """As `blda.data.check.check`; data sets without clips, such as the source, are checked as images."""
    dataset, failed = image.attempt(role)
    if failed or not isinstance(dataset, Clips):
        return failed or image.inspect(role, dataset, extent)
    report = image.inspect(role, dataset, extent, look)
    around = dataset.surroundings
    frames = [dataset.reader.frames[i] for i in spread(len(dataset), extent.named)]
    neighbours = tuple(neighbours_at(around.reader, frames, offset) for offset in around.offsets)
    flows, missing = stored_flow(around, frames)
    problems = [*report.problems, *_gap_problems(neighbours), *_flow_problems(flows, missing, role.tolerant)]
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    more = {"neighbours": neighbours, "flows": flows, "missing": missing, "problems": tuple(problems)}
    return ClipReport(**{**values, **more})


def look(dataset: Clips, index: int) -> Seen:
    """Open one key frame, its neighbours and the stored flow to them."""
    seen, around = image.look(dataset, index), dataset.surroundings
    frame = dataset.reader.frames[index]
    faults = list(seen.faults)
    for neighbour in _around(around, frame):
        try:
            _look_at_neighbour(around, frame, neighbour, seen.size)
        except (ValueError, OSError) as error:
            faults.append(("neighbour", str(error)))
    return Seen(index, seen.size, seen.ids, tuple(faults))


def neighbours_at(reader: VideoReader, frames: Iterable[Frame], offset: int) -> Neighbours:
    """Which of these key frames have the neighbour at a signed offset, by name."""
    frames, step = list(frames), 1 if offset > 0 else -1
    without = [frame for frame in frames if reader.neighbour(frame, offset) is None]
    farther = range(offset + step, offset + step * (FARTHEST + 1), step)
    gaps = tuple(frame.name for frame in without if any(reader.neighbour(frame, far) for far in farther))
    return Neighbours(offset, len(frames) - len(without), len(without) - len(gaps), gaps)


def stored_flow(around: Surroundings, frames: Iterable[Frame]) -> tuple[int, tuple[str, ...]]:
    """How many stored flows the clips of these key frames need, and the paths of those that are missing."""
    if not isinstance(around.flow, StoredFlow):
        return 0, ()
    ways = (way for frame in frames for neighbour in _around(around, frame) for way in _ways(around, frame, neighbour))
    wanted = dict.fromkeys((key.name, other.name) for key, other in ways)
    return len(wanted), tuple(str(around.flow.path(*names)) for names in wanted if not around.flow.has(*names))


def _around(around: Surroundings, frame: Frame) -> Iterator[Frame]:
    found = (around.reader.neighbour(frame, offset) for offset in around.offsets)
    return (neighbour for neighbour in found if neighbour is not None)


def _ways(around: Surroundings, frame: Frame, neighbour: Frame) -> tuple[tuple[Frame, Frame], ...]:
    return ((frame, neighbour), (neighbour, frame)) if around.flow.both_ways else ((frame, neighbour),)


def _look_at_neighbour(around: Surroundings, frame: Frame, neighbour: Frame, size: tuple[int, int] | None) -> None:
    shape = read_frame(around.reader, None, neighbour)[0].shape[:2]
    if size is not None and shape != size:
        raise ValueError(
            f"frame {neighbour.image} is {shape} but its key frame {frame.image} is {size} (height, width); "
            "all frames of a video must have one size"
        )
    if not isinstance(around.flow, StoredFlow):
        return
    for key, other in _ways(around, frame, neighbour):
        # What is missing is found by name, for all frames.
        if around.flow.has(key.name, other.name):
            around.flow.read(key.name, other.name, size=shape)


def _gap_problems(neighbours: Iterable[Neighbours]) -> Iterator[Problem]:
    for item in neighbours:
        if item.gaps:
            text = f"{len(item.gaps)} key frames have no neighbour at offset {item.offset} though their video goes on"
            mend = "extract the frames in between; without, they count as single images"
            yield Problem("neighbours", f"{text}, the first {item.gaps[0]}; {mend}", False)


def _flow_problems(flows: int, missing: Sequence[str], tolerant: bool) -> Iterator[Problem]:
    if missing:
        text = f"{len(missing)} of {flows} flows are not stored, the first {missing[0]}"
        # Frames that cannot be read have no flow; a store that was never filled is another matter.
        fatal = not tolerant or 2 * len(missing) > flows
        yield Problem("flow", f"{text}; make them with: python tools/compute_flow.py CONFIG", fatal)
