"""Data sets of one domain joined to one: their frames one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from torch.utils.data import Dataset

from blda.data.draws import Draw
from blda.data.readers.frames import Frame
from blda.data.sample import Sample


@dataclass(frozen=True)
class JoinedFrames:
    """Frames of all members in order; the name of each begins with its member's."""

    frames: tuple[Frame, ...]


class JoinedDataset(Dataset):
    """Samples of several data sets; index i of a member is index `starts[member] + i` here.

    members: name -> data set with a `reader`, in order. The data sets take draws, or numbers for whole images, and
    give samples of one type where they are to be batched. A sample depends on its draw's number and its member's
    frame alone, so a joined data set of one member gives that member's pixels.
    """

    def __init__(self, members: Mapping[str, Dataset[Sample]]) -> None:
        self.members = dict(members)
        self.lengths = tuple(len(each) for each in self.members.values())
        self.starts = tuple(accumulate(self.lengths, initial=0))[:-1]
        self.reader = JoinedFrames(
            tuple(
                replace(frame, name=f"{name}/{frame.name}")
                for name, each in self.members.items()
                for frame in each.reader.frames
            )
        )
        self._datasets = tuple(self.members.values())

    def __len__(self) -> int:
        return sum(self.lengths)

    def member_of(self, index: int) -> int:
        """Return the number of the member that a frame belongs to."""
        return bisect_right(self.starts, index) - 1

    def __getitem__(self, draw: Draw | int) -> Sample:
        """Return the sample (B = 1) of a draw, or of a number as a whole image; its name says the member."""
        index = draw.index if isinstance(draw, Draw) else draw
        member = self.member_of(index)
        own = index - self.starts[member]
        sample = self._datasets[member][replace(draw, index=own) if isinstance(draw, Draw) else own]
        number = draw.number if isinstance(draw, Draw) else index
        return replace(sample, name=(self.reader.frames[index].name,), draw=(number,))
