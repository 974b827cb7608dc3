"""Drawn pictures of mechanical parts, as a line camera over a conveyor would take them, with their whole truth.

A demo, the tests and every question of the kind "what would happen if one label in ten were wrong" need pictures whose
answer is known. `dataset.synthesize` is the only entrance. Nothing here is used when real images are read.
"""
