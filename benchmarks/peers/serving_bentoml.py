"""BentoML with two workers.

Run in an environment of its own: pip install bentoml torch torchvision onnxruntime
Usage: bentoml serve serving_bentoml:Classifier --host 127.0.0.1 --port PORT
"""

import bentoml
import numpy as np
from PIL.Image import Image
from serving_model import answers, load, prepared


@bentoml.service(workers=2)
class Classifier:
    def __init__(self):
        self.session = load()

    @bentoml.api
    def predict(self, image: Image) -> dict:
        """The five likeliest classes."""
        return answers(self.session, prepared(image)[np.newaxis])[0]
