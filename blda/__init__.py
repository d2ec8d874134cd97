"""Balanced learning for domain adaptation of segmentation networks and classifiers, one image at a time.

The names of `__all__` are the public interface for Python; they are imported when they are first used. Rooms: `data`,
`config`, `models`, `balance`, `engine`, `selftraining`, `calibration`, `build` and `deploy`; each says in its
`__init__.py` what it is for and which rooms it may import.
"""

from __future__ import annotations

from blda.lazy_names import lazy_names

_HOME = {
    "Alignment": "blda.balance.alignment",
    "BalancedLoss": "blda.balance.balanced_loss",
    "Calibration": "blda.calibration.calibration_file",
    "LogitStatistics": "blda.balance.logit_statistics",
    "Prediction": "blda.deploy.prediction",
    "TrainedSegmenter": "blda.deploy.trained_segmenter",
    "alignment": "blda.balance.alignment",
    "balanced_cross_entropy": "blda.balance.cross_entropy",
    "calibrate": "blda.calibration.posthoc",
    "correction": "blda.balance.alignment",
    "load": "blda.deploy.load",
    "scores": "blda.calibration.scores",
}
__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
