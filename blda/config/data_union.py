"""Several data sets of one domain: a list in the config becomes its first member, which holds the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any, TypeVar

U = TypeVar("U", bound="DataUnion")
TOLERANCE = 1e-3
"""Largest distance of the sum of the shares from 1, which is then corrected."""


class DataUnion:
    """Base of the dataclasses whose place in a config a list of them may take.

    A member has keys of its own, and those in SHARED, which are the same in all: batches mix the members. They may
    stand in the first member alone. A member's `share` is its part of the draws; without shares every frame is drawn
    alike. One member alone is the same as no list.
    """

    SHARED = ("crop", "flip")
    share: float | None
    others: tuple[Any, ...]

    @classmethod
    def joined(cls: type[U], members: Sequence[U]) -> U:
        """Join members to one object, the first with `others`.

        Raises ValueError when a shared key differs, or when the shares are not given for all or do not sum to 1.
        """
        first, *others = members
        for number, each in enumerate(others, 1):
            for key in cls.SHARED:
                if getattr(each, key) != getattr(first, key):
                    raise ValueError(f"member {number} has another {key} than member 0; give {key} once, in member 0")
        _require_shares([each.share for each in members])
        return replace(first, others=tuple(others), share=first.share if others else None)

    @property
    def members(self: U) -> tuple[U, ...]:
        """All members, each without `others`; of a single data set, itself."""
        shared = {key: getattr(self, key) for key in self.SHARED}
        return (replace(self, others=()), *(replace(each, **shared) for each in self.others))

    @property
    def shares(self) -> tuple[Fraction, ...] | None:
        """Part of the draws of each member, with the exact sum 1; None where every frame is drawn alike."""
        if not self.others or self.share is None:
            return None
        exact = [Fraction(str(each.share)) for each in self.members]
        return tuple(share / sum(exact) for share in exact)

    def unjoined(self: U) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the keys and values of a single data set, or of all members, without those that mean nothing."""
        members = [{field.name: getattr(each, field.name) for field in fields(each)} for each in self.members]
        found = [{key: value for key, value in each.items() if key not in UNSET or value} for each in members]
        return found if self.others else found[0]


UNSET = ("share", "flow", "others")
"""Keys that a single data set need not have: left out of what is saved while they are not set."""


def _require_shares(shares: Sequence[float | None]) -> None:
    given = [share for share in shares if share is not None]
    if given and len(given) < len(shares):
        raise ValueError(
            f"share is given for {len(given)} of {len(shares)} members; give it for all, or for none to draw every "
            "frame alike"
        )
    total = sum(given)
    if given and abs(total - 1) > TOLERANCE:
        fixed = ", ".join(f"{share / total:.4g}" for share in given)
        raise ValueError(f"the shares sum to {total:g}, not 1; for the same proportions give {fixed}")
