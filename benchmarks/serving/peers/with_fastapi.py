"""FastAPI as most people write it: the graph is run where the request is read."""

import sys

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Points(BaseModel):
    point: list[list[float]]


@app.post("/predict")
async def predict(points: Points) -> dict[str, list[list[float]]]:
    (found,) = session.run(None, {"point": np.array(points.point, dtype=np.float32)})
    return {"probabilities": found.tolist()}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
