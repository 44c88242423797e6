"""KServe's server with a model over ONNX Runtime; batches would be another container's work, in front of it."""

import logging
import sys

import onnxruntime as ort
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Onnx(Model):
    def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.ready = True
        return self.ready

    async def predict(self, payload, headers=None, response_headers=None):
        (found,) = self.session.run(None, {"point": payload.inputs[0].as_numpy()})
        output = InferOutput("probabilities", list(found.shape), "FP32", data=found)
        return InferResponse(payload.id or generate_uuid(), self.name, [output])


logging.disable(logging.INFO)
model = Onnx("toy")
model.load()
# It listens on every address: there is no setting for it.
ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, enable_latency_logging=False).start([model])
