"""Frames of a camera, a video or a watched folder, answered in time: `sortal stream`.

A child process captures (`capture`, killed and replaced by `camera`), frames lie in memory that is allocated once
(`memory`), a line hands the newest ones to worker processes and gives every frame exactly one result (`line`), and
results go where they were asked to go (`results`, `outlet`, `actions`, `recording`). Only the child imports OpenCV.
"""
