"""From the exported graph to a .tflite file: `convert` (graph to operators), `int8` (integers inside), `stamp` (what
the file says about itself), `coverage` (which operators a delegate takes), `refusal` (which layer cannot be taken).

Files take images with channels last, the order of decoders and of TFLite's own kernels, and one image at a time.
"""
