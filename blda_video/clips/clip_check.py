"""Check a data set of clips: images and labels, the neighbours of every key frame and the stored flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise

from blda.data.checks import dataset_check as image
from blda.data.checks.data_report import DataReport, Problem
from blda.data.checks.dataset_check import CheckScope, CheckTarget, Seen, spread
from blda.data.readers.frames import Frame
from blda.data.segmentation_dataset import read_frame
from blda_video.clips.clip_dataset import ClipContext, ClipDataset, EvaluationClips
from blda_video.clips.route import VideoReader, route
from blda_video.flow.flow_store import StoredFlow

FARTHEST = 30
"""Frames farther off than a missing neighbour in which its video is looked for."""

Clips = ClipDataset | EvaluationClips


@dataclass(frozen=True)
class Neighbours:
    """Counts of key frames by their neighbour at one offset: it exists, the video ends before it, or it falls in a gap.

    A clip at an end of its video has no such neighbour, as documented. gaps: names of key frames whose video goes on
    behind the gap.
    """

    offset: int
    found: int
    ends: int
    gaps: tuple[str, ...]


@dataclass(frozen=True)
class ClipReport(DataReport):
    """Report about a data set of clips. flows: stored flows that its clips need; missing: paths of absent ones."""

    neighbours: tuple[Neighbours, ...] = ()
    flows: int = 0
    missing: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Facts of the image report, with neighbours and flow added."""
        facts = super().facts()
        for item in self.neighbours:
            end = "first" if item.offset < 0 else "last"
            text = f"{item.found} found; without: {item.ends} at the {end} frames of a video, {len(item.gaps)} in gaps"
            facts.append((f"neighbours at {item.offset:+d}", text))
        if self.flows:
            facts.append(("stored flow", f"{self.flows - len(self.missing)} of {self.flows}"))
        return facts


def check(role: CheckTarget, scope: CheckScope) -> DataReport:
    """Check a data set of clips, see `blda.data.checks.dataset_check.check`.

    Data sets without clips, such as the source, are checked as images.
    """
    made = image.attempt(role)
    dataset = made.dataset
    if made.failed or not isinstance(dataset, Clips):
        return made.failed or image.inspect(role, made, scope)
    report = image.inspect(role, made, scope, look)
    around = dataset.clip_context
    frames = [dataset.reader.frames[i] for i in spread(len(dataset), scope.named)]
    neighbours = tuple(neighbours_at(around.reader, frames, offset, around.chain) for offset in around.offsets)
    flows, missing = stored_flow(around, frames)
    problems = [*report.problems, *_gap_problems(neighbours), *_flow_problems(flows, missing, role.skip_unreadable)]
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    more = {"neighbours": neighbours, "flows": flows, "missing": missing, "problems": tuple(problems)}
    return ClipReport(**{**values, **more})


def look(dataset: Clips, index: int) -> Seen:
    """Open one key frame, its neighbours and the stored flow to them."""
    seen, around = image.look(dataset, index), dataset.clip_context
    frame = dataset.reader.frames[index]
    images = (partial(_look_at_neighbour, around, frame, each, seen.size) for each in _around(around, frame))
    flows = (partial(_look_at_flow, around, *each, seen.size) for each in _stored(around, frame))
    faults = list(seen.faults)
    for attempt in (*images, *flows):
        try:
            attempt()
        except (ValueError, OSError) as error:
            faults.append(("neighbour", str(error)))
    return Seen(index, seen.size, seen.ids, tuple(faults))


def neighbours_at(reader: VideoReader, frames: Iterable[Frame], offset: int, chain: int | None = None) -> Neighbours:
    """Count the key frames that have the neighbour at a signed offset and every frame of the `route` to it."""
    frames, step = list(frames), 1 if offset > 0 else -1
    without = [frame for frame in frames if not route(reader, frame, offset, chain)]
    farther = range(offset, offset + step * (FARTHEST + 1), step)
    gaps = tuple(frame.name for frame in without if any(reader.neighbour(frame, far) for far in farther))
    return Neighbours(offset, len(frames) - len(without), len(without) - len(gaps), gaps)


def stored_flow(around: ClipContext, frames: Iterable[Frame]) -> tuple[int, tuple[str, ...]]:
    """Count the stored flows that the clips of these key frames need, and list the paths of the missing ones."""
    wanted = dict.fromkeys(names for frame in frames for names in _stored(around, frame))
    return len(wanted), tuple(str(around.flow.path(*names)) for names in wanted if not around.flow.has(*names))


def _around(around: ClipContext, frame: Frame) -> Iterable[Frame]:
    """Frames that the clip of a key frame reads beside it; estimated flow also reads the frames on its route."""
    paths = (around.route(frame, offset) for offset in around.offsets)
    used = slice(-1, None) if isinstance(around.flow, StoredFlow) else slice(1, None)
    return {each.name: each for path in paths for each in path[used]}.values()


def _stored(around: ClipContext, frame: Frame) -> Iterator[tuple[str, str]]:
    """The names of the two frames of each stored flow that the clip of a key frame needs."""
    if not isinstance(around.flow, StoredFlow):
        return
    for offset in around.offsets:
        path = around.route(frame, offset)
        for a, b in pairwise(path):
            yield a.name, b.name
            if around.flow.both_ways:
                yield b.name, a.name


def _look_at_neighbour(around: ClipContext, frame: Frame, neighbour: Frame, size: tuple[int, int] | None) -> None:
    shape = read_frame(around.reader, None, neighbour)[0].shape[:2]
    if size is not None and shape != size:
        raise ValueError(
            f"frame {neighbour.image} is {shape} but its key frame {frame.image} is {size} (height, width); "
            "all frames of a video must have one size"
        )


def _look_at_flow(around: ClipContext, key: str, neighbour: str, size: tuple[int, int] | None) -> None:
    # What is missing is found by name, for all frames.
    if around.flow.has(key, neighbour):
        around.flow.read(key, neighbour, size=size)


def _gap_problems(neighbours: Iterable[Neighbours]) -> Iterator[Problem]:
    for item in neighbours:
        if item.gaps:
            text = f"{len(item.gaps)} key frames have no neighbour at offset {item.offset} though their video goes on"
            fix = "extract the frames in between; without, they count as single images"
            yield Problem("neighbours", f"{text}, the first {item.gaps[0]}; {fix}", False)


def _flow_problems(flows: int, missing: Sequence[str], skip_unreadable: bool) -> Iterator[Problem]:
    if missing:
        text = f"{len(missing)} of {flows} flows are not stored, the first {missing[0]}"
        # Frames that cannot be read have no flow; a store that was never filled is another matter.
        fatal = not skip_unreadable or 2 * len(missing) > flows
        yield Problem("flow", f"{text}; make them with: blda compute-flow CONFIG", fatal)
