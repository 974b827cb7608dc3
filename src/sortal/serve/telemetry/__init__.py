"""What operators see of a server: numbers of each model, the state at the moment of asking, and traces.

`metrics` beside this package counts requests; `docs/observability.md` lists every series.
"""
