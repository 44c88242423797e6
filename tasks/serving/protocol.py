"""What the Open Inference Protocol tells of a server and its models, as Triton writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.serving.bundle import DTYPES
from tasks.serving.models import Version
from tasks.serving.settings import Serving
from tasks.serving.tensors import NAMES

VERSION = "0.1.0"
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics", "schedule_policy"]
NANO = 1e9


def server_metadata() -> dict[str, Any]:
    return {"name": "verticals", "version": VERSION, "extensions": EXTENSIONS}


def model_metadata(served: Version, versions: list[str]) -> dict[str, Any]:
    session = served.bundle.session
    return {
        "name": served.model,
        "versions": sorted(versions, key=int),
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(value) for value in session.get_inputs()],
        "outputs": [_tensor(value) for value in session.get_outputs()],
    }


def model_config(served: Version, settings: Serving) -> dict[str, Any]:
    session = served.bundle.session

    def listed(values: Sequence[Any]) -> list[dict[str, Any]]:
        tensors = [_tensor(value) for value in values]
        return [{"name": one["name"], "data_type": f"TYPE_{one['datatype']}", "dims": one["shape"][1:]} for one in tensors]

    return {
        "name": served.model,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": served.batcher.most_rows,
        "input": listed(session.get_inputs()),
        "output": listed(session.get_outputs()),
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
        "instance_group": [{"name": served.model, "kind": "KIND_CPU", "count": settings.sessions}],
        "response_cache": {"enable": settings.cache_megabytes > 0},
    }


def statistics(served: Version) -> dict[str, Any]:
    """Times in nanoseconds."""
    seen = served.statistics

    def sums(count: int, seconds: float) -> dict[str, int]:
        return {"count": count, "ns": round(seconds * NANO)}

    return {
        "name": served.model,
        "version": served.version,
        "last_inference": round(seen.last * 1e3),
        "inference_count": seen.rows,
        "execution_count": seen.batches.total(),
        "inference_stats": {
            "success": sums(seen.requests, seen.seconds),
            "fail": sums(seen.failed, seen.failed_seconds),
            "queue": sums(seen.requests, seen.queued),
            "compute_input": sums(seen.requests, 0),
            "compute_infer": sums(seen.requests, seen.computed),
            "compute_output": sums(seen.requests, 0),
            "cache_hit": sums(seen.hits, 0),
            "cache_miss": sums(seen.requests - seen.hits, 0),
        },
        "batch_stats": [{"batch_size": rows, "compute_infer": {"count": count, "ns": 0}} for rows, count in sorted(seen.batches.items())],
    }


def _tensor(value: Any) -> dict[str, Any]:
    shape = [side if isinstance(side, int) else -1 for side in value.shape]
    return {"name": value.name, "datatype": NAMES[np.dtype(DTYPES[value.type])], "shape": shape}


# -- for the page of the API ------------------------------------------------------------------------------------------
INFER_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["name", "shape", "datatype", "data"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                                    "datatype": {"type": "string"},
                                    "data": {"type": "array", "items": {}},
                                },
                            },
                        },
                        "outputs": {
                            "type": "array",
                            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
                        },
                        "parameters": {"type": "object"},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
PREDICT_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {"schema": {}},
        },
    }
}
TRAFFIC_DOCS: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "canary": {"type": "string"},
                        "share": {"type": "number", "minimum": 0, "maximum": 1},
                        "shadow": {"type": "string"},
                    },
                }
            }
        }
    }
}
