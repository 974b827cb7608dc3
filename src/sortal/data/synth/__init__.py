"""Drawn pictures of mechanical parts and sheet metal, as a line camera would take them, with all their truth.

A demo, the tests and every question of the kind "what would happen if one label in ten were wrong" need pictures whose
answer is known. `dataset.synthesize` is the only entrance. Nothing here is used when real images are read.
"""
