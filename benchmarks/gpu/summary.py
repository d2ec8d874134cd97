"""Compare the goals for a GPU with the measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Reports = Mapping[str, Mapping[str, Any]]


def goals(reports: Reports) -> dict[str, dict[str, Any]]:
    """Map each goal to its measurement and whether it is met; null without measurement."""
    mixed = ("cost", "2x19x512x512", "mixed")
    step = ("steps", "daformer bf16 blda")
    wanted = {
        "balanced loss, 2x19x512x512: 2 ms beyond plain cross-entropy": ((*mixed, "queued_more_ms"), 2.0),
        "balanced loss, 2x19x512x512: 100 MB beyond plain cross-entropy": ((*mixed, "extra_MB"), 100.0),
        "a step of DAFormer with BLDA, bf16: 0.25 s": ((*step, "step_s"), 0.25),
        "the same with training.cuda_graphs: 0.25 s": (("steps", "daformer bf16 blda graphs", "step_s"), 0.25),
        "statistics and alignment: 3 % of a step": ((*step, "groups", "statistics and alignment", "share"), 0.03),
        "propagation: 10 % of a video step": (("steps", "video bf16 blda", "groups", "propagation", "share"), 0.1),
    }
    found = {name: _met(_at(reports, path), most) for name, (path, most) in wanted.items()}
    for name, case in (("a step", "daformer bf16 blda"), ("a video step", "video bf16 blda")):
        waits = _at(reports, ("steps", case, "waits"))
        found[f"no wait of the host in {name}"] = {"measured": waits, "met": None if waits is None else not waits}
    found["the loss grows with the pixels"] = _linear(reports)
    failures = _at(reports, ("tests", "gpu_tests", "counts"))
    met = None if failures is None else not {"failed", "error"} & failures.keys()
    found["tests that need a GPU pass"] = {"measured": failures, "met": met}
    agree = _at(reports, ("tests", "kernels"))
    found["kernels agree with the CPU's"] = {
        "measured": agree,
        "met": None if agree is None else agree["agree"] == agree["of"],
    }
    return found


def _linear(reports: Reports) -> dict[str, Any]:
    """Time per pixel at 1024 x 1024 divided by time per pixel at 512 x 512."""
    small, large = (_at(reports, ("cost", s, "mixed", "queued_more_ms")) for s in ("2x19x512x512", "4x19x1024x1024"))
    if not small or large is None:
        return {"measured": None, "met": None}
    return _met(round(large / small / 8, 3), 1.1)


def _met(value: float | None, most: float) -> dict[str, Any]:
    return {"measured": value, "at_most": most, "met": None if value is None else value <= most}


def _at(reports: Reports, path: tuple[str, ...]) -> Any:
    """Result of a part below nested keys, None when it is missing."""
    value: Any = reports.get(path[0], {}).get("results")
    for key in path[1:]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
