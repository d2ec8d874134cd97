"""Flow computed once and kept on disk."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from blda import atomic

FORMAT = 1
SCALE = 64
"""Steps a pixel: the largest error is 1/128 px, the largest component 511.98 px."""
UNKNOWN = -32768
AGAIN = "delete it and run: python tools/compute_flow.py CONFIG"


class FlowStore:
    """A folder with one file for each directed pair of frames, and a manifest that says what made them.

    `<root>/<key>/<neighbour, quoted>.npz` holds the flow key -> neighbour as int16 of 1/64 px, differences along
    each row (on DIS flow 2.6 times smaller than float16 and at least as exact). A vector that is not finite or
    has a component of 512 px or more is unknown; it reads as NaN, which `geometry` takes for invalid.
    `<root>/manifest.json` holds format, estimator and frame size, and is written with the first flow.

    root: the folder; it need not exist yet.
    estimator: name of the estimator the flow must come from; None reads any store, but cannot write.
    Raises ValueError when the store on disk was made with another estimator or format.
    """

    def __init__(self, root: Path, estimator: str | None = None) -> None:
        self.root = Path(root)
        self.estimator = estimator
        self._size: tuple[int, int] | None = None
        self._manifest()

    def path(self, key: str, neighbour: str) -> Path:
        """The file of the flow key -> neighbour; both are frame names."""
        parts = PurePosixPath(key)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(
                f"frame name {key!r} leaves the flow store {self.root}; name frames relative to their root"
            )
        return self.root / parts / f"{quote(neighbour, safe='')}.npz"

    def has(self, key: str, neighbour: str) -> bool:
        """Whether the flow key -> neighbour is stored (a file is there only when it is complete)."""
        return self.path(key, neighbour).is_file()

    def read(self, key: str, neighbour: str) -> Tensor:
        """Flow key -> neighbour, (1, 2, H, W) float32 pixels at full frame size; unknown vectors are NaN.

        Raises FileNotFoundError for a missing file, ValueError for a corrupt one or one of another size.
        """
        path = self.path(key, neighbour)
        if not path.is_file():
            raise FileNotFoundError(f"no flow {path}; make it with: python tools/compute_flow.py CONFIG")
        self._manifest()
        try:
            with np.load(path, allow_pickle=False) as archive:
                fixed = np.cumsum(archive["flow"], axis=-1, dtype=np.int16)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
            raise ValueError(
                f"corrupt flow file {path} ({error}); delete it and run tools/compute_flow.py again"
            ) from error
        if fixed.ndim != 3 or fixed.shape[0] != 2 or (self._size and fixed.shape[1:] != self._size):
            raise ValueError(f"flow file {path} has shape {fixed.shape}, not 2 x {self._size}; {AGAIN}")
        flow = fixed.astype(np.float32) / SCALE
        flow[:, (fixed == UNKNOWN).any(0)] = np.nan
        return torch.from_numpy(flow)[None]

    def write(self, key: str, neighbour: str, flow: Tensor) -> None:
        """Store the flow key -> neighbour, (1, 2, H, W) or (2, H, W); a reader never sees half a file.

        Raises ValueError when the size differs from the store's, or when the store has no estimator to note.
        """
        flow = flow.detach().reshape(2, *flow.shape[-2:])
        self._claim(tuple(flow.shape[-2:]), self.path(key, neighbour))
        known = (flow.abs() < -UNKNOWN / SCALE - 0.5 / SCALE).all(0)
        steps = (torch.where(known, flow, 0) * SCALE).round()
        fixed = torch.where(known, steps, UNKNOWN).to("cpu", torch.int16).numpy()
        # int16 wraps around, so differences and their sum are exact.
        rows = np.diff(fixed, axis=-1, prepend=np.int16(0))
        atomic.write(self.path(key, neighbour), lambda file: np.savez_compressed(file, flow=rows))

    def _claim(self, size: tuple[int, int], path: Path) -> None:
        """Write the manifest if this is the first flow; check `size` against it otherwise."""
        if self.estimator is None:
            raise ValueError(f"cannot write {path}: the flow store was opened without the name of an estimator")
        if self._size is None and not self._manifest():
            manifest = {"format": FORMAT, "estimator": self.estimator, "size": list(size)}
            atomic.write(self.root / "manifest.json", json.dumps(manifest))
            self._size = size
        if size != self._size:
            sizes = f"{size[0]} x {size[1]}, its store {self.root} {self._size[0]} x {self._size[1]}"
            raise ValueError(f"flow {path} is {sizes}; one store holds one frame size, use another folder")

    def _manifest(self) -> bool:
        """Read and check the manifest; False when there is none yet."""
        path = self.root / "manifest.json"
        if self._size is not None:
            return True
        if not path.is_file():
            return False
        try:
            manifest = json.loads(path.read_text())
            made, found, size = manifest["format"], manifest["estimator"], tuple(manifest["size"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"corrupt flow manifest {path} ({error}); delete the store and compute it again"
            ) from error
        if made != FORMAT:
            raise ValueError(f"flow store {path} has format {made}, not {FORMAT}; compute it again in another folder")
        if self.estimator not in (None, found):
            raise ValueError(f"flow store {path} was made with {found!r}, not {self.estimator!r}; use another folder")
        self._size = size
        return True
