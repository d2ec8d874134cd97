"""Video adaptation: clips, optical flow and propagated labels on top of the image core `blda`.

The names of `__all__` are the public interface for Python; they are imported when they are first used. This package may
import `blda`, never the reverse. Each subpackage names the others that it may import.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "PredictedFrame": "blda_video.jobs.frame_prediction",
    "predict": "blda_video.jobs.frame_prediction",
    "train": "blda_video.jobs.training_job",
    "write": "blda_video.jobs.frame_writing",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import blda_video` loads no network and no decoder."""
    if name not in _HOME:
        raise AttributeError(f"module 'blda_video' has no attribute '{name}'; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
