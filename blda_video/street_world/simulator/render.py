"""Depth-buffered renderer of quads, and the exact flow between two views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blda_video.street_world.simulator.paint import TILE

NEAR = 0.3
"""Nearest visible depth in metres."""


@dataclass(frozen=True)
class View:
    """One frame's geometry.

    quad: (H, W) int32, the quad seen; a surface point is named by (quad, a, b).
    a, b: (H, W) float32, its coordinates on the quad.
    nearness: (H, W) float32, 1 / depth in 1 / metres; 0 in the sky.
    matrices: (N, 3, 3) float64, see `Scene.matrices`.
    """

    quad: np.ndarray
    a: np.ndarray
    b: np.ndarray
    nearness: np.ndarray
    matrices: np.ndarray


def _boxes(matrices: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel boxes (N, 4) x0, y0, x1, y1 (end exclusive) and the nearest depth (N,) of quads cut at NEAR."""
    u, v, o = matrices[:, :, 0], matrices[:, :, 1], matrices[:, :, 2]
    corners = np.stack([o, o + u, o + u + v, o + v], axis=1)
    following = np.roll(corners, -1, axis=1)
    z0, z1 = corners[..., 2], following[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where((z0 < NEAR) != (z1 < NEAR), (NEAR - z0) / (z1 - z0), 0.0)
    points = np.concatenate([corners, corners + part[..., None] * (following - corners)], axis=1)
    depth = points[..., 2]
    shown = depth >= NEAR - 1e-9
    pixel = points[..., :2] / np.maximum(depth, NEAR)[..., None]
    low = np.where(shown[..., None], pixel, np.inf).min(1)
    high = np.where(shown[..., None], pixel, -np.inf).max(1)
    limit = np.array([size[1], size[0]], float)
    box = np.concatenate([np.ceil(low).clip(0, limit), (np.floor(high) + 1).clip(0, limit)], axis=1)
    return box.astype(np.int64), np.where(shown, depth, np.inf).min(1)


def look(matrices: np.ndarray, pattern: np.ndarray, solid: np.ndarray, size: tuple[int, int]) -> View:
    """Render all quads.

    matrices: (N, 3, 3) of `Scene.matrices`, quad 0 is the sky.
    pattern: (N, 2) int, texture variant and mirrored (-1) or not (1), for quads with holes; variant -1 without.
    solid: (V, T, T) bool of `Atlas.solid`.
    """
    boxes, depth = _boxes(matrices, size)
    facing = np.linalg.det(matrices) > 1e-9
    shown = facing & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    shown[0] = False
    inverse = np.zeros(matrices.shape, np.float32)
    inverse[shown] = np.linalg.inv(matrices[shown])
    inverse[0] = np.linalg.inv(matrices[0])
    order = np.flatnonzero(shown)
    order = order[np.argsort(depth[order], kind="stable")]
    quad, nearness = np.zeros(size, np.int32), np.zeros(size, np.float32)
    columns, rows = np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32)[:, None]
    for index in order:
        x0, y0, x1, y1 = boxes[index]
        holes = (solid[pattern[index, 0]], pattern[index, 1]) if pattern[index, 0] >= 0 else None
        part = np.s_[y0:y1, x0:x1]
        best = nearness[part]
        if best.min() * depth[index] >= 1:  # everything here is nearer
            continue
        mask, near = _cover(inverse[index], columns[x0:x1], rows[y0:y1], best, holes)
        np.copyto(best, near, where=mask)
        np.copyto(quad[part], index, where=mask, casting="same_kind")
    a, b = _surface(inverse, quad, columns, rows)
    return View(quad, a, b, nearness, matrices)


def _cover(inverse, columns, rows, best, holes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a box that show the quad, and 1 / depth there; a = across / near and b = along / near."""
    near = inverse[2, 0] * columns + (inverse[2, 1] * rows + inverse[2, 2])
    across = inverse[0, 0] * columns + (inverse[0, 1] * rows + inverse[0, 2])
    along = inverse[1, 0] * columns + (inverse[1, 1] * rows + inverse[1, 2])
    mask = near > best
    mask &= across >= 0
    mask &= across < near
    mask &= along >= 0
    mask &= along < near
    if holes is not None:
        outline, mirrored = holes
        y, x = np.nonzero(mask)
        scale = TILE / near[y, x]
        u, v = (across[y, x] * scale).astype(np.int32), (along[y, x] * scale).astype(np.int32)
        u = np.minimum(u, TILE - 1)
        mask[y, x] = outline[np.minimum(v, TILE - 1), u if mirrored > 0 else TILE - 1 - u]
    return mask, near


def _surface(inverse, quad, columns, rows) -> tuple[np.ndarray, np.ndarray]:
    m = inverse.reshape(-1, 9)[quad]
    near = m[..., 6] * columns + m[..., 7] * rows + m[..., 8]
    a = (m[..., 0] * columns + m[..., 1] * rows + m[..., 2]) / near
    b = (m[..., 3] * columns + m[..., 4] * rows + m[..., 5]) / near
    return a, b


def flow(view: View, neighbour: View) -> tuple[np.ndarray, np.ndarray]:
    """Exact motion of every surface point from `view` to `neighbour`.

    Returns (2, H, W) float32 pixels, x right and y down, key -> neighbour, and (H, W) bool: the point is seen in
    the neighbour, which means that the pixel it falls on shows the same quad. A quad is flat, so it never hides
    itself. Points that fall behind the camera get a finite flow and are not visible.
    """
    height, width = view.quad.shape
    m = neighbour.matrices.astype(np.float32).reshape(-1, 9)[view.quad]
    depth = m[..., 6] * view.a + m[..., 7] * view.b + m[..., 8]
    front = np.maximum(depth, 0.05)
    x = (m[..., 0] * view.a + m[..., 1] * view.b + m[..., 2]) / front
    y = (m[..., 3] * view.a + m[..., 4] * view.b + m[..., 5]) / front
    column, row = np.rint(x).clip(-1, width).astype(np.int32), np.rint(y).clip(-1, height).astype(np.int32)
    seen = (depth >= NEAR) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    seen &= neighbour.quad[row.clip(0, height - 1), column.clip(0, width - 1)] == view.quad
    motion = np.stack([x - np.arange(width, dtype=np.float32), y - np.arange(height, dtype=np.float32)[:, None]])
    return motion.astype(np.float32), seen
