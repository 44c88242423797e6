"""MLServer with a runtime over ONNX Runtime and its adaptive batches."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        points = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        (found,) = self.session.run(None, {"point": points})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", found)])


async def main() -> None:
    port = int(sys.argv[2])
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
        debug=False,
        load_models_at_startup=False,
    )
    server = MLServer(settings)
    model = ModelSettings(
        name="toy", implementation=Onnx, max_batch_size=16, max_batch_time=0.002, parameters=ModelParameters(uri=sys.argv[1])
    )
    await server.start([model])


os.chdir(tempfile.mkdtemp())
sys.argv[1] = str(Path(sys.argv[1]).resolve())
asyncio.run(main())
