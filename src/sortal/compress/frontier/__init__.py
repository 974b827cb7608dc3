"""Frontier: cut networks, precisions and input sizes tried within a time, and the smallest that keeps what is asked."""
