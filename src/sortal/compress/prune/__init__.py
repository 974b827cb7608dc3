"""Fewer channels, and the same answers: structured pruning down to a smaller dense network."""
