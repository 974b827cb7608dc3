"""The nursery of benchmarks/kill_resume.py for tests: commands in forked processes that may be killed."""

from __future__ import annotations

from scripts import load_benchmark

kill_resume = load_benchmark("kill_resume")
