"""Fill a flow store for the clips of a reader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from blda.data.readers.frames import Frame
from blda.data.segmentation_dataset import image_tensor
from blda_video.clips.route import VideoReader, link_offsets, route
from blda_video.flow.flow_store import FlowStore

_LOG = logging.getLogger(__name__)


def pairs(
    reader: VideoReader, offsets: Sequence[int], both_ways: bool = True, chain: int | None = None
) -> list[tuple[Frame, Frame]]:
    """The pairs of frames between which clips of `reader` at signed `offsets` need flow, from the first to the second.

    both_ways: flow is stored in both directions, so each unordered pair is listed once. chain: as in `ClipContext`;
    the links of flow over several frames also join frames that are no key frames.
    """
    wanted: dict[Collection[str], tuple[Frame, Frame]] = {}
    for frame in reader.frames:
        for offset in offsets:
            path = route(reader, frame, offset, chain)
            for pair in pairwise(path):
                names = pair[0].name, pair[1].name
                wanted.setdefault(frozenset(names) if both_ways else names, pair)
    return list(wanted.values())


def compute(
    reader: VideoReader,
    offsets: Sequence[int],
    estimator: Callable[[Tensor, Tensor], Tensor],
    store: FlowStore,
    rank: int = 0,
    world: int = 1,
    chain: int | None = None,
    progress: bool = True,
    skip_unreadable: bool = False,
    device: torch.device | str = "cpu",
    stopped: Callable[[], object] = lambda: False,
) -> int:
    """Estimate and store the flow of all `pairs`, in both directions; returns how many flows were added.

    Flow that is stored already is skipped, so a killed run continues where it stopped. Process `rank` of `world` takes
    every world-th pair. chain: as in `pairs`. progress: show a bar with the rate and the time left. device: device of
    the images that the estimator gets. stopped: asked after every pair whether to end early. skip_unreadable: pairs of
    frames that cannot be used are reported and left out; without, FileNotFoundError for a missing frame, ValueError for
    an unreadable one or for two frames of different size. ValueError too when the store holds flow of another size.
    """
    if offsets:
        store.note(link_offsets(offsets, chain))
    wanted = pairs(reader, offsets, chain=chain)
    _require_size(store, wanted, skip_unreadable)
    # Dealt out before what is done is skipped: a share must not depend on what other processes have written meanwhile.
    missing = [
        (first, second, todo)
        for first, second in wanted[rank::world]
        if (todo := [not store.has(a.name, b.name) for a, b in ((first, second), (second, first))]) != [False, False]
    ]
    written = 0
    for first, second, todo in tqdm(missing, desc="flow", unit="pair", disable=not progress):
        if stopped():
            break
        try:
            image, neighbour = (each.to(device) for each in _images(first, second))
        except (ValueError, OSError) as error:
            if not skip_unreadable:
                raise
            _LOG.warning("no flow between %s and %s: %s", first.name, second.name, error)
            continue
        if todo[0]:
            store.write(first.name, second.name, estimator(image, neighbour))
        if todo[1]:
            store.write(second.name, first.name, estimator(neighbour, image))
        written += sum(todo)
    return written


def _require_size(store: FlowStore, wanted: Sequence[tuple[Frame, Frame]], skip_unreadable: bool) -> None:
    """Raise ValueError when the first frame is not of the store's size: its flow is of frames as they were before."""
    if not wanted:
        return
    try:
        size = wanted[0][0].read().shape[:2]
    except (ValueError, OSError):
        if not skip_unreadable:
            raise
        return
    store.require_frames(size)


def _images(first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
    """Both frames (1, 3, H, W)."""
    image, neighbour = image_tensor(first.read()), image_tensor(second.read())
    if image.shape != neighbour.shape:
        raise ValueError(f"{first.image} and {second.image} differ in size; a sequence needs frames of one size")
    return image, neighbour
