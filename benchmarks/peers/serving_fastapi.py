"""FastAPI as its documentation writes an upload: a plain function, run in its threads.

Run in an environment of its own: pip install fastapi "uvicorn[standard]" python-multipart torch torchvision onnxruntime
Usage: uvicorn serving_fastapi:app --workers 2
"""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI, UploadFile
from serving_model import answers, load, opened, prepared

app = FastAPI()
session = load()


@app.post("/predict")
def predict(file: UploadFile) -> dict:
    """The five likeliest classes."""
    return answers(session, prepared(opened(file.file.read()))[np.newaxis])[0]
