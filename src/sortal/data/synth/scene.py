"""Everything about one picture that is drawn by lot before a pixel is computed: pose, light, background, sensor.

Two generators decide: one belongs to the object as it lies on the belt (all frames of a burst share it), one to the
frame (how far the belt and the lamp moved meanwhile, and the sensor's noise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BACKGROUNDS = ("belt", "tray", "liner", "mat")


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the part lies: turn in radians, shift in mm, scale about 1."""

    turn: float
    shift_x: float
    shift_y: float
    scale: float


@dataclass(frozen=True, kw_only=True)
class Light:
    """Two bar lamps across the belt. power: exposure about 1; lean: where the main lamp reflects, about 0.45;
    azimuth: its turn against the belt in radians; fill: the strength of the second; warmth: -1 (blue) .. 1 (yellow)."""

    power: float
    lean: float
    azimuth: float
    fill: float
    warmth: float


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """The line camera. gain: noise, 1 is normal; blur_px: sigma along the belt; streaks: fixed pattern of its columns;
    vignette: loss in the corners; darkness: loss of exposure by drift, 0..1."""

    gain: float
    blur_px: float
    streaks: float
    vignette: float
    darkness: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All of it for one picture."""

    pose: Pose
    light: Light
    sensor: Sensor
    background: str


def draw_scene(lying: np.random.Generator, frame: np.random.Generator, *, drift: float) -> Scene:
    """Draw a scene; `drift` 0..1 makes the camera darker, blurrier, noisier and warmer."""
    light = Light(
        power=float(lying.uniform(0.86, 1.16)) * float(frame.uniform(0.985, 1.015)),
        lean=float(lying.uniform(0.36, 0.54)),
        azimuth=float(lying.normal(0, 0.12)),
        fill=float(lying.uniform(0.25, 0.6)),
        warmth=float(lying.normal(0, 0.25)) + 0.8 * drift,
    )
    sensor = Sensor(
        gain=1.0 + 2.5 * drift,
        blur_px=0.55 + 1.3 * drift,
        streaks=0.008 * (1 + 2 * drift),
        vignette=0.16 + 0.3 * drift,
        darkness=0.6 * drift,
    )
    background = str(lying.choice(BACKGROUNDS, p=(0.4, 0.3, 0.15, 0.15)))
    return Scene(pose=_pose(lying, frame), light=light, sensor=sensor, background=background)


def _pose(lying: np.random.Generator, frame: np.random.Generator) -> Pose:
    return Pose(
        turn=float(lying.uniform(0, 2 * math.pi)) + float(frame.normal(0, 0.03)),
        shift_x=float(lying.uniform(-1.4, 1.4)) + float(frame.normal(0, 0.25)),
        shift_y=float(lying.uniform(-1.4, 1.4)) + float(frame.normal(0, 0.25)),
        scale=float(lying.uniform(0.98, 1.02)),
    )
