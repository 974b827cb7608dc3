"""Marks `tests/` as a place to import from: `corpus` holds the image files that several suites share."""
