"""Headers of NumPy's files, read before memory is taken for the values that they claim."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

Shape = tuple[int, ...]


def array_header(path: Path, member: str | None = None) -> tuple[Shape, np.dtype]:
    """Read shape and type of a .npy file, or of an array of an .npz file.

    member: name of the array in the .npz file. Raises ValueError, without the file's name, when there is no such array
    or the file ends before the array does.
    """
    if member is None:
        with path.open("rb") as file:
            return _header(file, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if member not in names:
            raise ValueError(f"no array '{member}', only {', '.join(names) or 'none'}; save one of that name")
        with archive.open(f"{member}.npy") as file:
            return _header(file, archive.getinfo(f"{member}.npy").file_size)


def _header(file: BinaryIO, size: int) -> tuple[Shape, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if not kind.hasobject and file.tell() + math.prod(shape) * kind.itemsize > size:
        raise ValueError(f"it claims to hold {' x '.join(map(str, shape))} numbers and ends before; save it again")
    return shape, kind
