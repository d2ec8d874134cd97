"""Flow published by other projects, in their formats and under their file names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from torch import Tensor

from blda_video.flow.flow_formats import READERS, read_flow, require_png
from blda_video.flow.flow_store import ALL, Size, StoredFlow, require_size

FIELDS = ("folder", "parent", "key", "neighbour", "number")


class PublishedFlow(StoredFlow):
    """A folder of flow files that are read unchanged; the suffix names the format, see `flow_formats`.

    files: path of a file below `root`, with fields of the two frames. For the key `train/aachen/aachen_000000_000019`
        and its neighbour `.._000018`, {folder} is `train/aachen`, {parent} `aachen`, {key} `aachen_000000_000019`,
        {neighbour} `aachen_000000_000018` and {number} `000018`. Published are `{key}_{number}_int16_x10.npy`
        (Cityscapes), `{key}{number}_int16_x10.npy` (VIPER), `{key}_int16_x10.npy` (SYNTHIA-Seq), all of the DA-VSN
        family, and `{parent}/{key}.npz` (VIPER's own).
    offset: the signed distance, key -> neighbour, of all files; needed where `files` does not name the neighbour.
    both_ways: whether the flow neighbour -> key exists too, under the same pattern. Published flow leads one way only;
        then a pixel is valid where its point lies inside the neighbour, without the forward-backward check.
    png: what the numbers of PNG files mean: 'kitti', 'vkitti2', or steps a pixel (see `flow_formats`).
    Raises ValueError for a pattern that cannot find files.
    """

    def __init__(
        self,
        root: str | Path,
        files: str,
        offset: int | None = None,
        both_ways: bool = False,
        png: str | float = "kitti",
    ) -> None:
        self.root = Path(root)
        self.files = files
        self.offset = offset
        self.both_ways = both_ways
        self.png = png
        require_png(png)
        unknown = sorted(set(re.findall(r"{(.*?)}", files)) - set(FIELDS))
        if unknown or "{key}" not in files:
            fault = f"unknown field {{{unknown[0]}}}" if unknown else "no field {key}"
            raise ValueError(f"flow.files '{files}' has {fault}; use {', '.join(f'{{{name}}}' for name in FIELDS)}")
        if PurePosixPath(files).suffix not in READERS:
            raise ValueError(f"flow.files '{files}' has no known format; end it in one of {', '.join(READERS)}")
        if offset is None and not re.search("{(neighbour|number)}", files):
            raise ValueError(f"flow.files '{files}' does not name the neighbour; say which, for example offset: -1")
        if both_ways and offset is not None:
            raise ValueError(f"flow.files '{files}' lead by offset {offset} only; leave both_ways or offset out")

    def path(self, key: str, neighbour: str) -> Path:
        """The file of the flow key -> neighbour; ValueError where a name has no number that the pattern asks for."""
        name, other = PurePosixPath(key), PurePosixPath(neighbour).name
        number = re.search(r"[0-9]+$", other)
        if number is None and "{number}" in self.files:
            raise ValueError(f"frame {neighbour} does not end in a number; use {{neighbour}} in flow.files")
        fields = {
            "folder": str(name.parent),
            "parent": name.parent.name,
            "key": name.name,
            "neighbour": other,
            "number": number and number[0],
        }
        return self.root / self.files.format(**fields)

    def read(
        self, key: str, neighbour: str, rows: slice = ALL, columns: slice = ALL, size: Size | None = None
    ) -> Tensor:
        """Read the flow key -> neighbour, see `StoredFlow.read`."""
        path = self.path(key, neighbour)
        flow = read_flow(path, self.png)
        require_size(path, tuple(flow.shape[-2:]), size)
        return flow[None, :, rows, columns]

    def require(self, offsets: Iterable[int]) -> None:
        """Raise ValueError when the files hold flow to another neighbour."""
        other = sorted(set(offsets) - {self.offset})
        if self.offset is not None and other:
            raise ValueError(
                f"flow files {self.root / self.files} lead to offset {self.offset:+d}, not {other[0]:+d}; "
                "change the run's offsets, or compute flow: blda compute-flow CONFIG"
            )
