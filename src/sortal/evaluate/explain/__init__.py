"""Explanation of single answers: where the evidence lies, whether the map can be trusted, what the image is like."""
