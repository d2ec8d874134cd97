"""Remarks that reading a data set makes: no errors, but its owner should know them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOG = logging.getLogger(__name__)
_COLLECTED: ContextVar[list[str] | None] = ContextVar("remarks", default=None)
_SAID: set[str] = set()


def remark(text: str) -> None:
    """Make a remark: to the active `collecting`, else as a warning of the log, once a process."""
    collected = _COLLECTED.get()
    if collected is not None:
        if text not in collected:
            collected.append(text)
    elif text not in _SAID:
        _SAID.add(text)
        _LOG.warning("%s", text)


@contextmanager
def collecting() -> Iterator[list[str]]:
    """Collect the remarks that this thread makes inside the context, instead of logging them."""
    collected: list[str] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)
