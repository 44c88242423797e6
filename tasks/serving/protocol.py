"""Metadata, configuration and statistics by the Open Inference Protocol, in the format of Triton."""

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
        "max_batch_size": served.batcher.max_batch_size,
        "input": listed(session.get_inputs()),
        "output": listed(session.get_outputs()),
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
        "instance_group": [{"name": served.model, "kind": "KIND_CPU", "count": settings.sessions}],
        "response_cache": {"enable": settings.cache_megabytes > 0},
    }


def statistics(served: Version) -> dict[str, Any]:
    """The statistics of a version; times are in nanoseconds."""
    counted = served.statistics

    def sums(count: int, seconds: float) -> dict[str, int]:
        return {"count": count, "ns": round(seconds * NANO)}

    return {
        "name": served.model,
        "version": served.version,
        "last_inference": round(counted.last * 1e3),
        "inference_count": counted.rows,
        "execution_count": counted.batches.total(),
        "inference_stats": {
            "success": sums(counted.requests, counted.seconds),
            "fail": sums(counted.failed, counted.failed_seconds),
            "queue": sums(counted.requests, counted.queued),
            "compute_input": sums(counted.requests, 0),
            "compute_infer": sums(counted.requests, counted.computed),
            "compute_output": sums(counted.requests, 0),
            "cache_hit": sums(counted.hits, 0),
            "cache_miss": sums(counted.requests - counted.hits, 0),
        },
        "batch_stats": [
            {"batch_size": rows, "compute_infer": {"count": count, "ns": 0}} for rows, count in sorted(counted.batches.items())
        ],
    }


def _tensor(value: Any) -> dict[str, Any]:
    shape = [side if isinstance(side, int) else -1 for side in value.shape]
    return {"name": value.name, "datatype": NAMES[np.dtype(DTYPES[value.type])], "shape": shape}


# -- for the API docs -------------------------------------------------------------------------------------------------
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
