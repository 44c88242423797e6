"""Triton from a wheel, for reference: its own endpoint and dynamic batches, with the graph run by ONNX Runtime in Python."""

import os
import signal
import sys
import sysconfig

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])


@batch
def infer(point):
    return session.run(None, {"point": point})


os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")  # where its workers find the libpython of this Python, not another
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that it clears away its files
config = TritonConfig(http_address="127.0.0.1", http_port=int(sys.argv[2]), allow_grpc=False, allow_metrics=False)
with Triton(config=config) as triton:
    triton.bind(
        "toy",
        infer,
        inputs=[Tensor(name="point", dtype=np.float32, shape=(2,))],
        outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(2,))],
        config=ModelConfig(max_batch_size=16, batcher=DynamicBatcher()),
    )
    triton.serve()
