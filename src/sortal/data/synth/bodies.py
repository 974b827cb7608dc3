"""The bodies that lying parts are put together from: turned profiles, threads, hexagons, wire, helices.

A body is its distance (mm, negative inside) and its height; the axis lies along x. `rods` joins them to parts.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from sortal.data.synth.fields import Field
from sortal.data.synth.relief import Grid, Relief, solid

Body: TypeAlias = tuple[Field, Field]


def join(grid: Grid, *shapes: Body) -> Relief:
    distance, height = shapes[0]
    for other, other_height in shapes[1:]:
        height = np.maximum(np.where(distance < 0, height, 0), np.where(other < 0, other_height, 0))
        distance = np.minimum(distance, other)
    return solid(grid, distance, height)


def lathe(grid: Grid, radius: Field, start: float, end: float) -> Body:
    """A turned body: `radius` (H, W) mm at each pixel, between two places on the axis."""
    middle, half = (start + end) / 2, (end - start) / 2
    distance = np.maximum(np.abs(grid.y) - radius, np.abs(grid.x - middle) - half)
    height = np.sqrt(np.clip(np.maximum(radius, 0) ** 2 - grid.y**2, 0, None))
    return distance, height


def shank(grid: Grid, d: float, start: float, end: float, variant: str) -> Body:
    radius = thread(grid, d)
    if variant == "partial":
        radius = np.where(grid.x < start + 0.5 * (end - start), np.float32(0.47 * d), radius)
    tapered = np.minimum(radius, np.clip(end - grid.x, 0, None) * 1.1 + 0.34 * d)
    return lathe(grid, tapered, start, end)


def thread(grid: Grid, d: float) -> Field:
    pitch = 0.55 + 0.09 * d
    return 0.5 * d - 0.68 * pitch * (1 - ridges(grid, pitch, 0.5 * d))


def ridges(grid: Grid, pitch: float, radius: float) -> Field:
    """1 on the crests of a right-hand helix, 0 in its roots."""
    around = np.arcsin(np.clip(grid.y / radius, -1, 1)) / (2 * math.pi)
    phase = grid.x / pitch + around + grid.roll
    sharp = 2 * np.abs(phase - np.floor(phase) - 0.5)
    crest: Field = np.clip(1.25 * sharp - 0.1, 0, 1)
    return crest


def chamfered(grid: Grid, radius: Field, start: float, end: float, chamfer: float) -> Field:
    """Both ends broken at 45 degrees."""
    edge = np.clip(np.minimum(grid.x - start, end - grid.x), 0, None)
    broken: Field = np.minimum(radius, edge + float(radius.max()) - chamfer)
    return broken


def rounded(grid: Grid, radius: float, start: float, end: float) -> Field:
    """A cylinder whose edges are slightly broken."""
    edge: Field = np.minimum(grid.x - start, end - grid.x)
    return radius - 0.15 * np.exp(-np.clip(edge, 0, None) * 6)


def dome(grid: Grid, start: float, end: float, radius: float) -> Body:
    along = np.clip((end - grid.x) / (end - start), 0, 1)
    return lathe(grid, radius * np.sqrt(np.clip(1 - along**2.2, 0, None)), start, end)


def knurled(grid: Grid, start: float, end: float, radius: float) -> Body:
    distance, height = lathe(grid, chamfered(grid, np.full_like(grid.x, radius), start, end, 0.1 * radius), start, end)
    around = np.arcsin(np.clip(grid.y / radius, -1, 1))
    inner = np.clip(np.minimum(grid.x - start, end - grid.x) / (0.25 * radius) - 0.5, 0, 1)
    return distance, height + 0.045 * radius * inner * np.sin(22 * around + 6.0 * grid.roll)


def hexagon(grid: Grid, start: float, end: float, across: float) -> Body:
    """A hexagonal prism on its side: its upper faces as planes, its outer edge chamfered by a cone."""
    roll = math.pi / 3 * grid.roll
    angles = [roll + k * math.pi / 3 for k in range(6)]
    corner = across / math.sqrt(3)
    top = np.full_like(grid.y, corner)
    for angle in angles:
        if math.sin(angle) > 0.05:
            top = np.minimum(top, (across / 2 - math.cos(angle) * grid.y) / math.sin(angle))
    width = max(abs(corner * math.cos(angle + math.pi / 6)) for angle in angles)
    cone = np.clip(grid.x - start, 0, None) * 1.7 + 0.87 * corner
    round_edge = np.sqrt(np.clip(cone**2 - grid.y**2, 0, None))
    middle, half = (start + end) / 2, (end - start) / 2
    reach = np.maximum(np.abs(grid.y) - np.minimum(cone, width), np.abs(grid.x - middle) - half)
    return reach, np.clip(np.minimum(top, round_edge), 0, None)


def round_wire(reach: Field, radius: float) -> Body:
    """A round wire whose center line is `reach` mm away."""
    return reach - radius, np.sqrt(np.clip(radius * radius - reach * reach, 0, None)) + radius


def spring(grid: Grid, radius: float, wire: float, pitch: float, half: float) -> Relief:
    """A helix of round wire; the far half of each turn shows between the near ones."""
    angle = np.arccos(np.clip(grid.y / radius, -1, 1))
    lean = pitch / (2 * math.pi * radius) / np.maximum(np.sin(angle), 0.25)
    beyond = np.maximum(np.abs(grid.y) - radius, 0)
    offset = grid.x + half + pitch * grid.roll
    ends = np.abs(grid.x) - half
    best, height = np.full_like(grid.x, 9.0), np.zeros_like(grid.x)
    for side in (-1, 1):
        turn = offset / pitch - side * angle / (2 * math.pi)
        across = (turn - np.round(turn)) * pitch / np.sqrt(1 + lean * lean)
        reach = np.maximum(np.hypot(across, beyond), (ends + wire))
        top = radius * (1 + side * np.sin(angle)) + np.sqrt(np.clip(wire * wire - reach * reach, 0, None))
        height = np.where(reach < wire, np.maximum(height, top), height)
        best = np.minimum(best, reach)
    return solid(grid, best - wire, height)
