"""Frames that are labelled source and something else too, found by their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from blda.build.data_factory import DataFactory
from blda.build.reader_factory import place
from blda.data.checks.data_report import DataReport, Problem
from blda.data.readers.frames import Reader


def examine_overlap(data: DataFactory, adapts: bool) -> DataReport:
    """Look for frames of the sources among those of evaluation, which is an error, and of the target.

    Labelled frames of the target domain are a source like any other. Whether they are meant to be unlabelled target
    too is for the user to say. adapts: the run reads the target. Data sets that cannot be opened have a report of
    their own, and then this one is empty.
    """
    try:
        return DataReport("labelled", problems=tuple(_problems(data, adapts)))
    except (ValueError, OSError):
        return DataReport("labelled")


def _problems(data: DataFactory, adapts: bool) -> Iterator[Problem]:
    config, readers = data.config, data.readers
    targets = [images_of(readers.target(number)) for number in range(len(config.target.members) if adapts else 0)]
    evaluated, unlabelled = images_of(readers.evaluation()).keys(), set().union(*targets)
    for number in range(len(config.source.members)):
        key, own = place(config, "source", number), images_of(readers.source(number))
        if both := [image for image in own if image in evaluated]:
            text = f"{len(both)} labelled frames of {key} are evaluated too, the first {own[both[0]]}"
            yield Problem("evaluated", f"{text}; leave them out of {key}, for example by its split", True)
        if both := [image for image in own if image in unlabelled]:
            text = f"{len(both)} labelled frames of {key} are unlabelled target too, the first {own[both[0]]}"
            yield Problem("target", f"{text}; leave them out of the target unless this is meant", False)


def images_of(reader: Reader) -> dict[tuple[str, int | None], str]:
    """Return the images of a data set: path without links, and number in a video file -> name of the frame."""
    folders: dict[Path, str] = {}
    found = {}
    for frame in reader.frames:
        folder = frame.image.parent
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        path = os.path.join(folders[folder], frame.image.name)
        # Following the links of every folder again would take seconds on a network's disk.
        path = os.path.realpath(path) if os.path.islink(path) else path
        found[path, getattr(frame, "number", None)] = frame.name
    return found
