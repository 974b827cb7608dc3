"""What is wrong with a training run: its traces read back, its health, what to change."""
