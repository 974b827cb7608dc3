"""The numbers of an evaluation with their intervals: arrays in, numbers out, and the metrics made of them."""
