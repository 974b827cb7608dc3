"""Why an image is answered so, over HTTP: `process` computes it, `explainer` keeps that process, `routes` speak HTTP.

A process of its own, started when the first explanation is asked for and ended when none is for a while: an explanation
runs the network some hundred times, and the workers that answer images are never kept by one.
"""
