"""Things in the street, assembled from quads: vehicles, two-wheelers, people, trees, posts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from blda_video.street_world.simulator.scene import Builder

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """A vehicle as an extruded outline.

    size: width, height, length in metres. outline: (z, height) from the lower rear over the roof to the lower
    front, in parts of length and height. faces: the material of each stretch of the outline.
    """

    name: str
    size: tuple[float, float, float]
    outline: tuple[Point, ...]
    faces: tuple[str, ...]


CAR = Shape(
    "car",
    (1.8, 1.5, 4.2),
    ((0.0, 0.0), (0.0, 0.6), (0.13, 0.64), (0.23, 0.99), (0.6, 0.99), (0.74, 0.6), (1.0, 0.5), (1.0, 0.0)),
    ("rear", "paint", "glass", "paint", "glass", "paint", "front"),
)
HATCHBACK = Shape(
    "car",
    (1.8, 1.6, 3.8),
    ((0.0, 0.0), (0.0, 0.6), (0.14, 0.99), (0.6, 0.99), (0.74, 0.6), (1.0, 0.5), (1.0, 0.0)),
    ("rear", "glass", "paint", "glass", "paint", "front"),
)
_BOX = ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
TRUCK = Shape("truck", (2.5, 3.4, 7.5), _BOX, ("rear", "paint", "front"))
BUS = Shape("bus", (2.5, 3.1, 10.5), _BOX, ("rear", "paint", "front"))
TRAIN = Shape("train", (2.6, 3.5, 14.0), _BOX, ("rear", "paint", "front"))


def vehicle(builder: Builder, body: int, shape: Shape, tint: tuple[float, float, float], z: float = 0.0) -> None:
    """Put a vehicle on a body, its nose along the body's +z, its middle at `z`."""
    width, height, length = shape.size
    variant = builder.variant(f"{shape.name}_side") if shape.name != "car" else int(shape is HATCHBACK)
    points = [(z + (part - 0.5) * length, up * height) for part, up in shape.outline]
    for ((z0, up0), (z1, up1)), face in zip(pairwise(points), shape.faces, strict=True):
        material = f"{shape.name}_{face}"
        if up1 >= up0:
            corner, right, down = (-width / 2, -up1, z1), (width, 0, 0), (0, up1 - up0, z0 - z1)
        else:
            corner, right, down = (width / 2, -up0, z0), (-width, 0, 0), (0, up0 - up1, z1 - z0)
        builder.quad(body, material, corner, right, down, tint=tint)
    for side in (-1, 1):
        builder.quad(
            body,
            f"{shape.name}_side",
            (side * width / 2, -height, z - side * length / 2),
            (0, 0, side * length),
            (0, height, 0),
            repeat=(side, 1),
            tint=tint,
            variant=variant,
        )
    builder.shade(body, 0, z, (width / 2, length / 2), height)


def train(builder: Builder, body: int, tint: tuple[float, float, float], cars: int) -> None:
    """A tram of several cars, the first at the body's origin."""
    for car in range(cars):
        vehicle(builder, body, TRAIN, tint, z=-car * (TRAIN.size[2] + 0.6))


def two_wheeler(builder: Builder, body: int, name: str, side: bool, ridden: bool) -> None:
    """A bicycle or a motorcycle, seen from behind or from the side, with a rider or parked."""
    end = "_side" if side else ""
    width, height = (2.2, 2.0) if side else (1.1, 2.0)
    if ridden:
        builder.upright(body, f"rider{end}", 0, -0.02, width, height)
    builder.upright(body, f"{name}{end}", 0, 0, width, height)
    builder.shade(body, 0, 0, (width / 2, 0.4), 1.0)


def person(builder: Builder, body: int, side: bool, size: float = 1.0) -> None:
    """Someone who faces along the street, or walks across it."""
    width = 1.1 if side else 0.85
    builder.upright(body, "walker" if side else "person", 0, 0, width * size, 1.8 * size)
    builder.shade(body, 0, 0, (0.3, 0.25), 1.7)


def tree(builder: Builder, x: float, z: float, size: float) -> None:
    """A trunk and a crown of three leaves of cloth, one behind the other."""
    builder.upright(0, "trunk", x, z, 0.09 * size, 0.55 * size)
    for k in (-1, 0, 1):
        width, shift = size * (1 - 0.25 * abs(k)), 0.18 * size * k
        builder.upright(0, "crown", x + 0.5 * shift, z + shift, width, width, base=0.4 * size)
    builder.shade(0, x, z, (0.4 * size, 0.4 * size), 0.9 * size)


def post(builder: Builder, x: float, z: float, height: float, width: float = 0.3) -> None:
    """A bare pole."""
    builder.upright(0, "pole", x, z, width, height)
    builder.shade(0, x, z, (width / 2, width / 2), 2.0)


def street_lamp(builder: Builder, x: float, z: float) -> None:
    """A tall pole with an arm over the road."""
    post(builder, x, z, 6.5, 0.34)
    arm = 1.6 if x < 0 else -1.6
    builder.upright(0, "pole", x + arm / 2, z, abs(arm), 0.22, base=6.4)


def traffic_light(builder: Builder, x: float, z: float, overhead: bool) -> None:
    """A light on a post, and perhaps one more on an arm over the lane."""
    variant = builder.variant("light")
    post(builder, x, z, 4.9 if overhead else 3.6)
    builder.upright(0, "light", x, z - 0.06, 0.65, 1.5, base=2.2, variant=variant)
    if overhead:
        inward = -1 if x > 0 else 1
        builder.upright(0, "pole", x + inward * 1.5, z, 3.0, 0.22, base=4.75)
        builder.upright(0, "light", x + inward * 2.9, z - 0.06, 0.7, 1.6, base=3.6, variant=variant)


def traffic_sign(builder: Builder, x: float, z: float) -> None:
    """One or two signs on a post."""
    post(builder, x, z, 3.2, 0.2)
    builder.upright(0, "sign", x, z - 0.04, 1.15, 1.15, base=2.1)
    if builder.rng.random() < 0.4:
        builder.upright(0, "sign", x, z - 0.04, 1.0, 0.9, base=1.2)
