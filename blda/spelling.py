"""The end of an error message about an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(name: str, known: Collection[str]) -> str:
    """The known name nearest to a mistyped one, or all of them."""
    match = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{match[0]}'?" if match else f"known: {', '.join(known)}"
