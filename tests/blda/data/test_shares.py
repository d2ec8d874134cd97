"""Draws by shares: exact counts, a function of seed and number alone, all frames of a member, rare classes."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from blda.data.sampler import RareClassSampler
from blda.data.shares import BLOCK, SharedRareClassSampler, SharedSampler, Turns, joint

LENGTHS = (7, 400, 31)
SHARES = tuple(map(Fraction, ("0.2", "0.29", "0.51")))


def member_of(index: int) -> int:
    return 0 if index < 7 else 1 if index < 407 else 2


def test_each_member_has_its_share_of_every_hundred_draws_and_its_turns_in_order() -> None:
    turns = Turns(SHARES, seed=5)
    found = [turns(number) for number in range(10 * BLOCK)]
    for start in range(0, len(found), BLOCK):
        counts = Counter(member for member, _ in found[start : start + BLOCK])
        assert [counts[member] for member in range(3)] == [20, 29, 51]
    for member, count in enumerate((200, 290, 510)):
        assert sorted(own for each, own in found if each == member) == list(range(count))


def test_shares_that_no_block_divides_hold_but_for_rounding() -> None:
    turns = Turns((Fraction(1, 3), Fraction(1, 3), Fraction(1, 3)), seed=0)
    counts = Counter(turns(number)[0] for number in range(1000))
    assert max(abs(counts[member] - 1000 / 3) for member in range(3)) < 1


def test_members_of_two_domains_meet_in_all_pairs() -> None:
    """A fixed order would pair the same members again and again, as images of one number are mixed."""
    half = (Fraction(1, 2), Fraction(1, 2))
    source, target = Turns(half, seed=1), Turns(half, seed=2)
    pairs = Counter((source(number)[0], target(number)[0]) for number in range(1000))
    assert len(pairs) == 4 and min(pairs.values()) > 150


def test_a_draw_is_a_function_of_seed_and_number_and_processes_share_them_out() -> None:
    whole = SharedSampler(LENGTHS, SHARES, batch=4, seed=3)
    numbers = [4, 999, 0, 999, 150]
    assert [whole.draw(number) for number in numbers] == [
        SharedSampler(LENGTHS, SHARES, batch=1, seed=3).draw(number) for number in numbers
    ]
    halves = [SharedSampler(LENGTHS, SHARES, 2, rank, 2, seed=3) for rank in (0, 1)]
    batches = zip(islice(whole, 60), *(islice(half, 60) for half in halves), strict=True)
    assert all(batch == first + second for batch, first, second in batches)
    resumed = SharedSampler(LENGTHS, SHARES, batch=4, seed=3, start_step=40)
    assert list(islice(whole, 40, 60)) == list(islice(resumed, 20))
    assert SharedSampler(LENGTHS, SHARES, batch=4, seed=4).draw(9) != whole.draw(9)


def test_a_member_shows_every_frame_once_in_its_epoch() -> None:
    sampler = SharedSampler(LENGTHS, SHARES, batch=1, seed=3)
    draws = [sampler.draw(number) for number in range(700)]
    counts = Counter(draw.index for draw in draws)
    assert {counts[index] for index in range(7)} == {20}  # 140 turns of 7 frames
    assert max(counts[index] for index in range(7, 407)) == 1
    assert Counter(member_of(draw.index) for draw in draws) == {0: 140, 1: 203, 2: 357}


@pytest.mark.parametrize("replacing", [False, True])
def test_another_frame_is_of_the_same_member(replacing: bool) -> None:
    sampler = SharedSampler(LENGTHS, SHARES, batch=1, seed=3, replacing=replacing)
    for draw in map(sampler.draw, range(50)):
        other = sampler.instead(draw, 0)
        assert other.index != draw.index and other.number == draw.number
        assert member_of(other.index) == member_of(draw.index)


def pixels() -> np.ndarray:
    """Three members of 4, 3 and 5 frames and three classes; the second shows no class 2, the third no class 0."""
    counts = np.full((12, 3), 5000)
    counts[:, 0] *= 4
    counts[4:7, 2] = counts[7:, 0] = 0
    counts[0, 2] = 10
    return counts


def rare(**position: int) -> SharedRareClassSampler:
    shares = tuple(map(Fraction, ("0.5", "0.2", "0.3")))
    union = RareClassSampler(pixels(), **{"batch": 1, "seed": 3, **position}, temperature=0.3, min_pixels=3000)
    return SharedRareClassSampler(union, (4, 3, 5), shares)


def test_rare_classes_of_the_union_and_shares_of_the_members_hold_together() -> None:
    sampler = rare()
    union = sampler.union
    assert np.allclose(sampler.joint.sum(1), union.probabilities)
    assert np.allclose(sampler.joint.sum(0), (0.5, 0.2, 0.3), atol=1e-6)
    draws = [sampler.draw(number) for number in range(2000)]
    assert all(pixels()[draw.index, draw.wanted] >= 3000 for draw in draws)
    members = Counter(0 if draw.index < 4 else 1 if draw.index < 7 else 2 for draw in draws)
    classes = Counter(draw.wanted for draw in draws)
    # Five standard deviations of a count of 2000 draws are at most 112.
    assert all(abs(members[member] - 2000 * share) < 112 for member, share in enumerate((0.5, 0.2, 0.3)))
    assert all(abs(classes[index] - 2000 * float(union.probabilities[index])) < 112 for index in range(3))


def test_rare_draws_are_split_over_processes_and_resumed() -> None:
    halves = [rare(batch=1, rank=rank, world=2) for rank in (0, 1)]
    batches = zip(islice(rare(batch=2), 30), *(islice(half, 30) for half in halves), strict=True)
    assert all(batch == first + second for batch, first, second in batches)
    assert list(islice(rare(start_step=20), 10)) == list(islice(rare(), 20, 30))
    draw = next(draw for draw in map(rare().draw, range(100)) if draw.wanted == 2 and draw.index < 4)
    other = rare().instead(draw, 0)
    assert other.index in {1, 2, 3} - {draw.index} and other.wanted == 2


def test_classes_hold_exactly_where_shares_cannot() -> None:
    """Only the first member shows the class of nine tenths of all draws."""
    found = joint(np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([[True, False], [True, True]]))
    assert np.allclose(found.sum(1), (0.9, 0.1)) and np.allclose(found, [[0.9, 0], [0, 0.1]], atol=1e-3)
