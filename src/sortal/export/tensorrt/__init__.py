"""TensorRT engines, built where they will run. `python -m sortal.export.tensorrt model.onnx model.plan`."""
