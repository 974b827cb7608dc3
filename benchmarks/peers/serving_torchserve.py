"""TorchServe's own handler for images, with the same graph in ONNX Runtime in place of a network in PyTorch.

Run in an environment of its own: pip install torch torchvision torchserve torch-model-archiver onnxruntime captum
(and a Java of at least 17). `serving_peers.py` makes the archive and the configuration.
"""

import os

import onnxruntime
import torch
from ts.torch_handler.image_classifier import ImageClassifier


class Handler(ImageClassifier):
    def initialize(self, context):
        self.context = context
        self.manifest = context.manifest
        self.device = torch.device("cpu")
        self.map_location = "cpu"
        self.mapping = {str(number): f"class {number}" for number in range(100)}
        torch.set_num_threads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["SERVING_MODEL"], options)
        self.initialized = True

    def inference(self, data, *args, **kwargs):  # noqa: ARG002
        return torch.from_numpy(self.session.run(["logits"], {"image": data.numpy()})[0])
