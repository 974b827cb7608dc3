"""Comparison of classifiers on the same images: paired tests, what changed, and what each costs."""
