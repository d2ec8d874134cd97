"""Flow computed once and kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import quote_from_bytes

import numpy as np
import torch
from torch import Tensor

from blda import atomic, text
from blda.data.readers.array_headers import array_header
from blda.data.readers.headers import LARGEST
from blda_video.flow import store_manifest
from blda_video.flow.store_manifest import Manifest

SCALE = 64
"""Steps a pixel: the largest error is 1/128 px, the largest component 511.98 px."""
UNKNOWN = -32768
LONGEST = 240
"""Letters of a quoted name. Most file systems allow 255 bytes, of which the suffix takes some."""
Size = tuple[int, int]
ALL = slice(None)
AGAIN = "delete it and run: blda compute-flow CONFIG"


class StoredFlow(ABC):
    """Flow between whole frames in files that are found by the names of the two frames.

    both_ways: whether neighbour -> key is stored beside key -> neighbour.
    """

    both_ways = True

    @abstractmethod
    def path(self, key: str, neighbour: str) -> Path:
        """The file of the flow key -> neighbour; both are frame names."""

    @abstractmethod
    def read(
        self, key: str, neighbour: str, rows: slice = ALL, columns: slice = ALL, size: Size | None = None
    ) -> Tensor:
        """Flow key -> neighbour, (1, 2, H, W) float32 pixels at full frame size; unknown vectors are NaN.

        rows, columns: the window to return, as (start, stop). size: (H, W) of the frames, which must equal the flow's.
        Raises FileNotFoundError for a missing file, ValueError for a corrupt one or one of another size.
        """

    @abstractmethod
    def require(self, offsets: Iterable[int]) -> None:
        """Raise ValueError when the store is known not to hold flow to neighbours at these offsets."""

    def has(self, key: str, neighbour: str) -> bool:
        """Tell whether the flow key -> neighbour is stored (a file exists only when it is complete)."""
        return self.path(key, neighbour).is_file()


def require_size(path: Path, found: Size, size: Size | None) -> None:
    """Raise ValueError when a flow has another size than its frames."""
    if size is not None and tuple(found) != tuple(size):
        raise ValueError(
            f"flow {path} is {tuple(found)} but its images are {tuple(size)} (height, width); "
            "compute the flow again from these frames, in an empty folder"
        )


class FlowStore(StoredFlow):
    """A folder with one file for each directed pair of frames, and a manifest that says what made them.

    `<root>/<key>/<neighbour, quoted>.npz` holds the flow key -> neighbour as int16 of 1/64 px, differences along
    each row (on DIS flow 2.6 times smaller than float16 and at least as exact). Names too long for a file end in a
    digest instead. A vector that is not finite or has a component of 512 px or more is unknown; it reads as NaN,
    which `geometry` takes for invalid.
    `<root>/manifest.json` (see `manifest`) is written with the first flow.

    root: the folder; it need not exist yet.
    estimator: name of the estimator the flow must come from; None reads any store, but cannot write.
    Raises ValueError when the store on disk was made with another estimator or format.
    """

    def __init__(self, root: str | Path, estimator: str | None = None) -> None:
        self.root = Path(root)
        self.estimator = estimator
        self._noted: tuple[int, ...] | None = None
        self._made: Manifest | None = None
        self._manifest()

    def path(self, key: str, neighbour: str) -> Path:
        """The file of the flow key -> neighbour; ValueError when the key's name leaves the store."""
        parts = PurePosixPath(key)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(
                f"frame name {key!r} leaves the flow store {self.root}; name frames relative to their root"
            )
        return self.root / parts / f"{_file_name(neighbour)}.npz"

    def read(
        self, key: str, neighbour: str, rows: slice = ALL, columns: slice = ALL, size: Size | None = None
    ) -> Tensor:
        """Read the flow key -> neighbour, see `StoredFlow.read`."""
        path = self.path(key, neighbour)
        if not path.is_file():
            raise FileNotFoundError(f"no flow {path}; make it with: blda compute-flow CONFIG")
        steps = self._steps(path, size)
        return _unpacked(steps[:, rows], columns)[None]

    def _steps(self, path: Path, size: Size | None) -> np.ndarray:
        """Read the differences (2, H, W) int16 of a file; its header is checked before memory is taken for them."""
        made = self._manifest()
        with _as_corrupt(path):
            shape, kind = array_header(path, "flow")
        fits = len(shape) == 3 and shape[0] == 2 and kind == np.int16 and math.prod(shape) <= 2 * LARGEST
        if not fits or (made and shape[1:] != made.size):
            expected = f"2 x {made.size}" if made else "2 x H x W"
            raise ValueError(f"flow file {path} has shape {shape}, {kind}, not {expected}, int16; {AGAIN}")
        require_size(path, shape[1:], size)
        with _as_corrupt(path), np.load(path, allow_pickle=False) as archive:
            return archive["flow"]

    def write(self, key: str, neighbour: str, flow: Tensor) -> None:
        """Store the flow key -> neighbour, (1, 2, H, W) or (2, H, W); a reader never sees half a file.

        Raises ValueError when the size differs from the store's, when most vectors are unknown, or when the store was
        opened without an estimator.
        """
        flow = flow.detach().reshape(2, *flow.shape[-2:])
        path = self.path(key, neighbour)
        known = (flow.abs() < -UNKNOWN / SCALE - 0.5 / SCALE).all(0)
        if known.double().mean() < 0.5:
            raise ValueError(
                f"flow {path} by {self.estimator}: most vectors are not finite or longer than {-UNKNOWN // SCALE} px; "
                "check the estimator's weights and the frames"
            )
        self._claim(tuple(flow.shape[-2:]), path)
        steps = (torch.where(known, flow, 0) * SCALE).round()
        fixed = torch.where(known, steps, UNKNOWN).to("cpu", torch.int16).numpy()
        # int16 wraps around, so differences and their sum are exact.
        rows = np.diff(fixed, axis=-1, prepend=np.int16(0))
        atomic.write(path, lambda file: np.savez_compressed(file, flow=rows))

    def note(self, offsets: Iterable[int]) -> None:
        """Add signed offsets, which are about to be written, to those that the manifest names."""
        made = store_manifest.read(self._file)
        known = made and made.offsets
        self._noted = tuple(sorted({*offsets, *(self._noted or ()), *(known or ())}))
        if made and made.offsets != self._noted:
            self._made = dataclasses.replace(made, offsets=self._noted)
            store_manifest.write(self._file, self._made)

    def require(self, offsets: Iterable[int]) -> None:
        """Raise ValueError when the manifest lists the store's offsets and one of these is not among them."""
        made = self._manifest()
        missing = [] if made is None or made.offsets is None else sorted(set(offsets) - set(made.offsets))
        if missing:
            held, asked = (", ".join(f"{offset:+d}" for offset in group) for group in (made.offsets, missing))
            raise ValueError(
                f"flow store {self._file} was computed for offsets {held}, not {asked}; "
                "add them with: blda compute-flow CONFIG"
            )

    def require_frames(self, size: Size) -> None:
        """Raise ValueError when the flow stored so far is of frames of another size than (H, W)."""
        made = self._manifest()
        if made is not None:
            require_size(self._file, made.size, size)

    @property
    def _file(self) -> Path:
        return self.root / "manifest.json"

    def _claim(self, size: tuple[int, int], path: Path) -> None:
        """Write the manifest if this is the first flow; check `size` against it otherwise."""
        if self.estimator is None:
            raise ValueError(f"cannot write {path}: the flow store was opened without the name of an estimator")
        made = self._manifest()
        if made is None:
            made = self._made = Manifest(self.estimator, size, self._noted, store_manifest.commit())
            store_manifest.write(self._file, made)
        if size != made.size:
            sizes = f"{size[0]} x {size[1]}, its store {self.root} {made.size[0]} x {made.size[1]}"
            raise ValueError(f"flow {path} is {sizes}; one store holds one frame size, use another folder")

    def _manifest(self) -> Manifest | None:
        """The checked manifest, None while there is none yet."""
        if self._made is None:
            made = store_manifest.read(self._file)
            if made and self.estimator not in (None, made.estimator):
                result = f"was made with {made.estimator!r}, not {self.estimator!r}"
                raise ValueError(f"flow store {self._file} {result}; use another folder")
            self._made = made
        return self._made


@contextmanager
def _as_corrupt(path: Path) -> Iterator[None]:
    """Raise ValueError naming the file for whatever reading a damaged one raises."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"corrupt flow file {path} ({type(error).__name__}: {reason}); {AGAIN}") from error


def _file_name(neighbour: str) -> str:
    """File name for a frame's name: quoted, or its beginning and its digest when that is too long."""
    name = text.to_bytes(neighbour)
    quoted = quote_from_bytes(name, safe="")
    if len(quoted) <= LONGEST:
        return quoted
    return f"{quoted[: LONGEST - 33]}~{hashlib.sha256(name).hexdigest()[:32]}"


def _unpacked(steps: np.ndarray, columns: slice) -> Tensor:
    """Decode columns of a flow (2, H, W), in pixels, from the differences along its rows."""
    part = steps[..., columns].copy()
    part[..., 0] += steps[..., : columns.start or 0].sum(-1, dtype=np.int16)
    # The sum by torch, the rest by numpy: each is several times as fast as the other at it.
    fixed = torch.from_numpy(part).cumsum(-1, dtype=torch.int16).numpy()
    flow = fixed.astype(np.float32)
    flow /= SCALE
    unknown = (fixed[0] == UNKNOWN) | (fixed[1] == UNKNOWN)
    if unknown.any():
        flow[:, unknown] = np.nan
    return torch.from_numpy(flow)
