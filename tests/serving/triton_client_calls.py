"""Every call of Triton's own client on a running server; for a Python that has it: `python triton_client_calls.py http HOST:PORT MODEL`."""

import importlib
import sys

import numpy as np

protocol, address, model = sys.argv[1:]
triton = importlib.import_module(f"tritonclient.{protocol}")
client = triton.InferenceServerClient(address)
plain = {"as_json": True} if protocol == "grpc" else {}
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model) and client.is_model_ready(model, "1")
assert "binary_tensor_data" in str(client.get_server_metadata(**plain))
described = client.get_model_metadata(model, **plain)
assert model in str(client.get_model_config(model, **plain)) and model in str(client.get_model_repository_index(**plain))
given, wanted = described["inputs"][0], described["outputs"][0]["name"]
shape = [2, *(int(side) for side in given["shape"][1:])]
values = np.random.default_rng(0).normal(size=shape).astype(np.float32)


def tensor(**how):
    made = triton.InferInput(given["name"], shape, given["datatype"])
    made.set_data_from_numpy(values, **how)
    return made


answers = []
if protocol == "http":
    for sent in (True, False):
        asked = (None, [triton.InferRequestedOutput(wanted, binary_data=True)], [triton.InferRequestedOutput(wanted, binary_data=False)])
        for outputs in asked:
            for packed in (None, "gzip", "deflate"):
                how = {"request_compression_algorithm": packed, "response_compression_algorithm": packed, "model_version": "1"}
                answers.append(client.infer(model, [tensor(binary_data=sent)], outputs=outputs, request_id="7", **how))
    answers.append(client.async_infer(model, [tensor()]).get_result())
else:
    for outputs in (None, [triton.InferRequestedOutput(wanted)]):
        for packed in (None, "gzip", "deflate"):
            how = {"compression_algorithm": packed, "model_version": "1", "client_timeout": 5}
            answers.append(client.infer(model, [tensor()], outputs=outputs, request_id="7", **how))
found = [answer.as_numpy(wanted) for answer in answers]
assert all(np.allclose(found[0], one, atol=1e-6) for one in found)
assert model in str(client.get_inference_statistics(model, **plain))
for wrong in ("none", model):
    try:
        client.infer(wrong, [triton.InferInput(given["name"], [3, 3], "FP64")] if wrong == model else [tensor()])
    except triton.InferenceServerException as error:
        assert error.status() and error.message()
    else:
        raise AssertionError(f"{wrong} was answered")
client.unload_model(model)
assert not client.is_model_ready(model) if protocol == "http" else True
client.load_model(model)
assert client.is_model_ready(model)
print(f"{len(answers)} ways, one answer")
