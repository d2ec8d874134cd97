"""Build a street: ground, houses, traffic and people. One seed and one set of habits always give one scene."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blda_video.street_world.simulator import things
from blda_video.street_world.simulator.camera import drive
from blda_video.street_world.simulator.scene import Builder, Scene

VIEW = 110.0
"""Length of street ahead of the last camera position, in metres."""


@dataclass(frozen=True)
class Habits:
    """Frequencies of things in a town; numbers per 100 m of one side of the street, shares in [0, 1].

    fronts: share of building, wall, fence and park along the street. leading: share of sequences with a car ahead of
    the camera. rare: share of sequences that have the thing. paints: colours of vehicles.
    """

    fronts: tuple[float, float, float, float]
    people: float
    crossing_people: float
    parked_cars: float
    parked_bicycles: float
    trees: float
    poles: float
    signs: float
    oncoming: float
    leading: float
    rare: Mapping[str, float]
    paints: tuple[tuple[float, float, float], ...]


class Street:
    """Builds one scene of `frames` frames; `habits` decide what is frequent."""

    def __init__(self, seed: int, frames: int, habits: Habits):
        self._seed, self._habits = seed, habits
        self._rng = np.random.default_rng((seed, 11))
        self._make = Builder(self._rng, frames)
        self.camera = drive(self._rng, frames)
        self._end = float(self.camera.position[-1, 2])
        self._reach = self._end + VIEW
        self._road = self._rng.uniform(4.6, 6.0)
        self._walk = self._road + self._rng.uniform(2.2, 3.6)
        self._lane = 0.27 * self._road
        self._stream = -self._rng.uniform(0.3, 0.6)  # velocity of all who come towards us, so that none collide
        self._taken: list[tuple[float, float, float]] = []
        self._front = {side: self._walk + self._rng.choice([0.0, 0.0, 2.0, 4.0]) for side in (-1, 1)}

    def scene(self) -> Scene:
        """The finished scene."""
        crossings = self._crossings()
        self._ground(crossings)
        for z0, z1 in zip([-6.0, *(z + 9 for z in crossings)], [*crossings, self._reach], strict=True):
            for side in (-1, 1):
                self._block(side, z0, z1)
        for z in crossings:
            self._lights(z)
        self._horizon()
        self._rare()
        self._traffic()
        for side in (-1, 1):
            self._kerb(side)
            self._parked(side)
            self._people(side)
        return self._make.scene(self.camera)

    def _crossings(self) -> list[float]:
        places, z = [], self._rng.uniform(14, 45)
        while z < self._reach - 40:
            places.append(z)
            z += self._rng.uniform(32, 70)
        return places

    def _ground(self, crossings: list[float]) -> None:
        make, far = self._make, self._reach + 30
        make.floor("grass", (-90, 90), (-8, far), -0.03, repeat=(45, (far + 8) / 4))
        make.floor("road", (-self._road, self._road), (-8, far), 0, repeat=(1, (far + 8) / 8))
        for z0, z1 in zip([-8.0, *(z + 9 for z in crossings)], [*crossings, far], strict=True):
            for side in (-1, 1):
                x = sorted((side * self._road, side * self._walk))
                make.floor("sidewalk", (x[0], x[1]), (z0, z1), 0.14, repeat=(1, (z1 - z0) / (self._walk - self._road)))
                make.along(0, "curb", side * self._road, (z0, z1), 0.14, repeat=(z1 - z0, 1))
                make.quad(0, "curb", (x[0], -0.14, z0), (x[1] - x[0], 0, 0), (0, 0.14, 0), repeat=(3, 1))
        for z in crossings:
            make.floor("crossing", (-70, 70), (z, z + 9), 0.01, repeat=(24, 2))

    def _block(self, side: int, z0: float, z1: float) -> None:
        kinds = (self._house, self._wall, self._fence, self._park)
        while z1 - z0 > 4:
            end = min(z1, z0 + self._rng.uniform(9, 18))
            end = z1 if z1 - end < 5 else end
            kinds[self._rng.choice(4, p=self._habits.fronts)](side, z0, end)
            z0 = end

    def _house(self, side: int, z0: float, z1: float) -> None:
        make, x = self._make, side * (self._front[side] + self._rng.choice([0.0, 0.6, 1.2]))
        height, depth = self._rng.uniform(6, 17), self._rng.uniform(9, 14)
        tint = self._rng.uniform(0.85, 1.15, 3) * self._rng.uniform(0.95, 1.15)
        floors = max(1, round(height / 6))
        make.along(0, "facade", x, (z0, z1), height, repeat=(max(1, round((z1 - z0) / 6)), floors), tint=tint)
        middle = x + side * depth / 2
        make.upright(0, "gable", middle, z0, depth, height, repeat=(2, floors), tint=tint)
        make.shade(0, middle, (z0 + z1) / 2, (depth / 2, (z1 - z0) / 2), height)

    def _wall(self, side: int, z0: float, z1: float) -> None:
        x, height = side * self._front[side], self._rng.uniform(2.0, 3.4)
        self._make.along(0, "wall", x, (z0, z1), height, repeat=(round((z1 - z0) / 3), 1))
        self._make.upright(0, "wall", x + side * 2, z0, 4, height, repeat=(1, 1))
        self._make.shade(0, x, (z0 + z1) / 2, (0.2, (z1 - z0) / 2), height)
        self._grove(side, z0, z1, 0.7)

    def _fence(self, side: int, z0: float, z1: float) -> None:
        x, height = side * self._front[side], self._rng.uniform(1.5, 2.3)
        variant = self._make.variant("fence")
        self._make.along(0, "fence", x, (z0, z1), height, repeat=(round((z1 - z0) / 2), 1), variant=variant)
        self._make.upright(0, "fence", x + side * 3, z0, 6, height, repeat=(3, 1), variant=variant)
        self._grove(side, z0, z1, 1.0)

    def _park(self, side: int, z0: float, z1: float) -> None:
        for z in np.arange(z0 + 1, z1, 3.0):
            if self._rng.random() < 0.5:
                x = side * (self._front[side] + self._rng.uniform(1, 6))
                self._make.upright(0, "bush", x, z, self._rng.uniform(1.8, 3), self._rng.uniform(0.9, 1.8))
        self._grove(side, z0, z1, 0.8)

    def _grove(self, side: int, z0: float, z1: float, density: float) -> None:
        for _ in range(self._rng.poisson(density * (z1 - z0) / 8)):
            x = side * (self._front[side] + self._rng.uniform(4, 14))
            things.tree(self._make, x, self._rng.uniform(z0 + 1, z1), self._rng.uniform(5, 9))

    def _horizon(self) -> None:
        make, z = self._make, self._reach + 5
        for side in (-1, 1):
            make.along(0, "hedge", side * 42, (-8, z), 6, repeat=(z / 6, 1))
        for x in np.arange(-48, 48, 12.0):
            kind, height = ("gable", self._rng.uniform(7, 15)) if self._rng.random() < 0.5 else ("hedge", 6)
            make.upright(0, kind, x + 6, z + self._rng.uniform(0, 8), 12.5, height, repeat=(2, 1))

    def _lights(self, z: float) -> None:
        things.traffic_light(self._make, self._road + 0.5, z - 0.5, self._rng.random() < 0.5)
        if self._rng.random() < 0.9:
            things.traffic_light(self._make, -self._road - 0.5, z + 9.5, False)

    def _scatter(self, density: float, start: float = 2.0) -> np.ndarray:
        """Places along one side, `density` per 100 m on average."""
        return self._rng.uniform(start, self._reach, self._rng.poisson(density * (self._reach - start) / 100))

    def _take(self, x: float, z: float, radius: float) -> bool:
        """Take a place if nothing stands within `radius` at frame 0; returns whether it was free."""
        if any(abs(x - x1) < 2 and abs(z - z1) < radius + r1 for x1, z1, r1 in self._taken):
            return False
        self._taken.append((x, z, radius))
        return True

    def _kerb(self, side: int) -> None:
        make, habits, rim = self._make, self._habits, side * (self._road + 0.5)
        for z in self._scatter(habits.trees):
            things.tree(make, side * (self._road + 0.9), z, self._rng.uniform(4.5, 7))
        for z in self._scatter(habits.poles):
            things.street_lamp(make, rim, z)
        for z in self._scatter(habits.signs):
            things.traffic_sign(make, rim, z)
        for z in self._scatter(habits.parked_bicycles):
            x = side * (self._walk - 1.1)
            things.two_wheeler(make, make.place((x, -0.14, z)), "bicycle", True, ridden=False)

    def _parked(self, side: int) -> None:
        yaw = 0.0 if side > 0 else np.pi
        for slot in np.arange(8, self._reach, 6.5):
            if self._rng.random() < self._habits.parked_cars * 6.5 / 100:
                x, z = side * (self._road - 1.0), slot + self._rng.uniform(-0.5, 0.5)
                if self._take(x, z, 2.6):
                    self._car((x, 0, z), yaw=yaw)

    def _people(self, side: int) -> None:
        for z in self._scatter(self._habits.people):
            x = side * self._rng.uniform(self._road + 0.6, self._walk - 0.4)
            pace = self._rng.choice([-0.09, 0.0, 0.09])
            body = self._make.place((x, -0.14, z), (0, 0, pace))
            things.person(self._make, body, False, self._rng.uniform(0.95, 1.15))
        for z in self._scatter(self._habits.crossing_people, start=self._end + 4):  # we run over nobody
            x = side * self._rng.uniform(0.5, self._walk)
            body = self._make.place((x, -0.05, z), (-side * self._rng.uniform(0.05, 0.12), 0, 0))
            things.person(self._make, body, True, self._rng.uniform(0.95, 1.15))

    def _paint(self) -> tuple[float, float, float]:
        return self._habits.paints[self._rng.integers(len(self._habits.paints))]

    def _car(self, start: tuple[float, float, float], velocity: float = 0.0, yaw: float = 0.0) -> None:
        body = self._make.place(start, (0, 0, velocity), yaw)
        things.vehicle(self._make, body, (things.CAR, things.HATCHBACK)[self._rng.integers(2)], self._paint())

    def _traffic(self) -> None:
        for z in self._scatter(self._habits.oncoming, start=8.0):
            if self._take(-self._lane, z, 3.0):
                self._car((-self._lane, 0, z), self._stream, np.pi)
        gap = self._rng.uniform(11, 26)
        if self._rng.random() < self._habits.leading and self._take(self._lane, gap, 3.0):
            pace = self._end / len(self.camera.yaw)
            self._car((self._lane, 0, gap), pace * self._rng.uniform(1.0, 1.15))

    def _drawn(self, name: str) -> bool:
        """Tell whether this sequence has the rare thing; consecutive seeds spread evenly (golden-ratio sequence)."""
        start = zlib.crc32(name.encode()) / 2**32
        return (start + self._seed * 0.6180339887) % 1 < self._habits.rare[name]

    def _rare(self) -> None:
        make, rng = self._make, self._rng
        if self._drawn("train"):
            oncoming, z = rng.random() < 0.5, rng.uniform(18, 36)
            x, pace = (-self._lane, self._stream) if oncoming else (-(self._walk + 3.0), rng.choice([-0.3, 0.1]))
            self._take(x, z + 12, 26)
            body = make.place((x, 0, z if pace > 0 else z + 22), (0, 0, pace), 0.0 if pace > 0 else np.pi)
            things.train(make, body, self._paint(), cars=2)
        for shape in (things.TRUCK, things.BUS):
            if self._drawn(shape.name):
                oncoming, z = rng.random() < 0.5, rng.uniform(14, 32)
                x = -self._lane if oncoming else self._road - 1.4
                if not self._take(x, z, shape.size[2] / 2 + 1):
                    x, z = self._road - 1.4, z + 14
                    oncoming = not self._take(x, z, shape.size[2] / 2 + 1)
                body = make.place((x, 0, z), (0, 0, self._stream * oncoming), np.pi if x < 0 else 0.0)
                things.vehicle(make, body, shape, self._paint())
        for name in ("motorcycle", "bicycle"):
            if self._drawn(name):
                self._ride(name)

    def _ride(self, name: str) -> None:
        make, rng = self._make, self._rng
        pace = {"motorcycle": 0.55, "bicycle": 0.3}[name]
        x, z = rng.uniform(2.3, 2.8), rng.uniform(7, 14)
        self._take(x, z, 6.0)
        ahead = make.place((x, 0, z), (0, 0, pace))
        things.two_wheeler(make, ahead, name, False, ridden=True)
        across = make.place((rng.choice([-4.0, 5.0]), 0, rng.uniform(14, 24)), (rng.choice([-0.1, 0.1]), 0, 0.25))
        things.two_wheeler(make, across, name, True, ridden=True)
        if name == "motorcycle":
            parked = make.place((self._road + 0.9, -0.14, rng.uniform(12, 30)))
            things.two_wheeler(make, parked, name, True, ridden=False)
