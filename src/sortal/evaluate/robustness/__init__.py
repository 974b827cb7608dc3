"""Corruptions of images at five strengths, `name -> Corruption`: what cameras, light, handling and transport do.

They act on upright pixels before the preprocessing, as the world does. The idea of named corruptions at five strengths
is that of Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common corruptions"; kinds and
strengths here are those of inspection and product photography, relative to the size of the picture.
"""

from __future__ import annotations

from sortal.core.registry import Registry

CORRUPTIONS = Registry(
    kind="corruption",
    group="sortal.corruptions",
    table={
        "gaussian_blur": "sortal.evaluate.robustness.camera:GAUSSIAN_BLUR",
        "gaussian_noise": "sortal.evaluate.robustness.camera:GAUSSIAN_NOISE",
        "jpeg": "sortal.evaluate.robustness.camera:JPEG",
        "brightness": "sortal.evaluate.robustness.light:BRIGHTNESS",
        "darkness": "sortal.evaluate.robustness.light:DARKNESS",
        "contrast": "sortal.evaluate.robustness.light:CONTRAST",
        "color_cast": "sortal.evaluate.robustness.light:COLOR_CAST",
        "rotation": "sortal.evaluate.robustness.pose:ROTATION",
        "zoom_in": "sortal.evaluate.robustness.pose:ZOOM_IN",
        "zoom_out": "sortal.evaluate.robustness.pose:ZOOM_OUT",
        "occlusion": "sortal.evaluate.robustness.pose:OCCLUSION",
    },
)
