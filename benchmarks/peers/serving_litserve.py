"""LitServe with two workers; batches of up to eight where LITSERVE_BATCH is set.

Run in an environment of its own: pip install litserve python-multipart torch torchvision onnxruntime
Usage: python serving_litserve.py PORT
"""

import os
import sys

import litserve
import numpy as np
from fastapi import UploadFile
from serving_model import answers, load, opened, prepared

BATCH = int(os.environ.get("LITSERVE_BATCH", "1"))


class Classifier(litserve.LitAPI):
    def setup(self, device):  # noqa: ARG002
        self.session = load()

    def decode_request(self, request: UploadFile):
        return prepared(opened(request.file.read()))

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, pixels):
        return answers(self.session, pixels if BATCH > 1 else pixels[np.newaxis])

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output if BATCH > 1 else output[0]


if __name__ == "__main__":
    batching = {"max_batch_size": BATCH, "batch_timeout": 0.002} if BATCH > 1 else {}
    server = litserve.LitServer(Classifier(**batching), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
