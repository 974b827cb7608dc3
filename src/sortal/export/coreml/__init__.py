"""Core ML packages: made from the exported graph, and read back and held against it where none can be run.

coremltools converts on any system; Apple's systems alone predict. What stands in for a prediction is `check`.
"""
