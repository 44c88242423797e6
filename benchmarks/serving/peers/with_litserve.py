"""LitServe with batches, as its documentation shows them."""

import sys

import litserve as ls
import numpy as np
import onnxruntime as ort


class Api(ls.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.array(request["point"], dtype=np.float32)[0]

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, points):
        return self.session.run(None, {"point": points})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"probabilities": [output.tolist()]}


if __name__ == "__main__":
    server = ls.LitServer(Api(max_batch_size=16, batch_timeout=0.002), accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False, log_level="error", num_api_servers=1)
