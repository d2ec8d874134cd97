"""Loading of a trained network: from a checkpoint, a run's folder, a saved folder or the Hugging Face hub."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blda.build.saved_folder import RESULT
from blda.build.trained_network import read_network
from blda.calibration.calibration_file import Calibration
from blda.deploy.trained_segmenter import Origin, TrainedSegmenter
from blda.engine import checkpoint


def load(
    where: str | os.PathLike,
    calibration: str | os.PathLike | Calibration | bool | None = None,
    overrides: Sequence[str] = (),
    **prediction: Any,
) -> TrainedSegmenter:
    """Load a trained segmentation network, on the CPU.

    where: a checkpoint (step_*.pt) beside its config.yaml, a run's folder for its newest checkpoint, a folder of
    `save_pretrained`, or "user/name" ("user/name@revision") of the Hugging Face hub. calibration: a file of
    `blda calibrate`, or a `Calibration`, that balances the predictions; None takes the one that was saved with the
    network, False none. overrides: `key=value` on top of the config, as on the command line. prediction: replaces
    `size`, `keep_ratio`, `window`, `stride`, `window_batch` or `flip` of the run's `evaluation`.

    Raises FileNotFoundError and ValueError in one line that says what is wrong, and the fix.
    """
    found = read_network(where, calibration, overrides, **prediction)
    origin = Origin(found.weights, found.settings, _scores(found.weights, found.saved))
    return TrainedSegmenter(found.network, found.config, origin, found.calibration)


def _scores(weights: Path, saved: bool) -> dict[str, Any]:
    """Return the scores of the run's end; empty for a checkpoint that is not its last, or without any."""
    path = weights.parent / RESULT
    if not path.is_file() or not (saved or weights == checkpoint.latest(weights.parent)):
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
