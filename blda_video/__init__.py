"""Video adaptation: clips, optical flow and propagated labels on top of the image core `blda`.

The names of `__all__` are the public interface for Python; they are imported when they are first used. This package may
import `blda`, never the reverse. Each subpackage names the others that it may import.
"""

from __future__ import annotations

from blda.lazy_names import lazy_names

_HOME = {
    "PredictedFrame": "blda_video.jobs.frame_prediction",
    "predict": "blda_video.jobs.frame_prediction",
    "train": "blda_video.jobs.training_job",
    "write": "blda_video.jobs.frame_writing",
}
__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
