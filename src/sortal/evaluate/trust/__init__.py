"""Whether confidence can be trusted: calibration, thresholds that are promised, prediction sets, unknown images."""
