"""Manifest of a flow store: the estimator, frame size and offsets it was computed with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from blda import atomic
from blda.code_version import code_version

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """Origin of a store's flow.

    estimator: description of the estimator. size: (height, width) of every flow. commit: commit of the code that began
    the store. offsets: signed frame distances, key -> neighbour, that the store is computed for; None when not
    recorded.
    """

    estimator: str
    size: tuple[int, int]
    offsets: tuple[int, ...] | None = None
    commit: str | None = None


def read(path: Path) -> Manifest | None:
    """Read the manifest in a file; None when there is none; ValueError for a corrupt one or one of another format."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        height, width = content["size"]
        made, offsets = content["format"], content.get("offsets")
        manifest = Manifest(
            str(content["estimator"]),
            (int(height), int(width)),
            None if offsets is None else tuple(int(offset) for offset in offsets),
            content.get("commit"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"corrupt flow manifest {path} ({error}); delete the store and compute it again") from error
    if made != FORMAT:
        raise ValueError(f"flow store {path} has format {made}, not {FORMAT}; compute it again in another folder")
    return manifest


def write(path: Path, manifest: Manifest) -> None:
    """Write a manifest atomically."""
    content = {
        "format": FORMAT,
        "estimator": manifest.estimator,
        "size": list(manifest.size),
        "direction": "<root>/KEY/NEIGHBOUR.npz leads from key to neighbour",
        "offsets": None if manifest.offsets is None else list(manifest.offsets),
        "commit": manifest.commit,
    }
    atomic.write(path, json.dumps(content, indent=1))


def commit() -> str:
    """Return the commit of this code, or its version when it is not a checkout."""
    known = code_version()
    return known.get("commit") or known.get("version") or "unknown"
