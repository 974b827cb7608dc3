"""mosec with two workers and its dynamic batches of up to eight.

Run in an environment of its own: pip install mosec torch torchvision onnxruntime
Usage: python serving_mosec.py --address 127.0.0.1 --port PORT
"""

import numpy as np
from mosec import Server, Worker
from serving_model import answers, load, opened, prepared


class Classifier(Worker):
    def __init__(self):
        super().__init__()
        self.session = load()

    def deserialize(self, data):
        return prepared(opened(data))

    def forward(self, data):
        return answers(self.session, np.stack(data))


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classifier, num=2, max_batch_size=8, max_wait_time=2)
    server.run()
