"""Smaller and faster without breaking what was promised: `study` tells the story of `sortal compress`."""
