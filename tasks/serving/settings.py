"""The settings of the server. Their descriptions are the documentation that the command line shows."""

from __future__ import annotations

from pydantic import Field

from tasks.contract.cores import cores
from tasks.contract.records import Record
from tasks.serving.sessions import Device


class Serving(Record):
    """Settings of the server, or of a bundle that is embedded in another process."""

    host: str = Field(
        default="127.0.0.1", description="address to listen on; 0.0.0.0: all addresses of the machine, so that other machines can connect"
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port of HTTP; 0: any free port")
    grpc_port: int = Field(default=0, ge=0, le=65535, description="port of gRPC, such as 8001; 0: no gRPC")
    sessions: int = Field(default=1, ge=1, le=64, description="sessions of ONNX Runtime per model, each in its own thread")
    threads: int = Field(
        default=1,
        ge=0,
        le=256,
        description="CPU threads per session; 0: all cores that are available to this process, divided among the sessions",
    )
    device: Device = Field(default="auto", description="device that computes: cpu, cuda, or auto: a GPU if this ONNX Runtime supports one")
    graph_cache: str = Field(
        default="", description="folder in which optimised graphs are cached, so that models load faster; empty: no cache"
    )
    max_batch: int = Field(default=32, ge=1, description="maximum number of rows in a batch")
    max_rows: int = Field(default=1024, ge=1, description="maximum number of rows in one request")
    queue: int = Field(
        default=256, ge=1, description="maximum number of queued requests per model; further requests are refused with status 429"
    )
    deadline_seconds: float = Field(
        default=30.0, gt=0, description="seconds after which a request ends with status 504; a request can set a shorter time itself"
    )
    cache_megabytes: float = Field(default=64.0, ge=0, description="size of the response cache in megabytes; 0: no cache")
    max_megabytes: float = Field(default=64.0, gt=0, description="maximum size of one request in megabytes")
    watch_seconds: float = Field(
        default=0.0, ge=0, description="interval in seconds at which new versions in the repository are loaded; 0: only on request"
    )
    log_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="fraction of the requests that are logged, without their content; answers with a status of 5xx always are",
    )
    predictions: str = Field(default="", description="folder for a sample of requests and answers in Parquet files; empty: no sample")
    predictions_share: float = Field(default=0.01, ge=0, le=1, description="fraction of the predictions in that sample")
    predictions_megabytes: float = Field(
        default=1000.0, gt=0, description="maximum size of that sample in megabytes; the oldest files are removed first"
    )
    traces: str = Field(default="", description="address of an OTLP collector for traces, such as http://127.0.0.1:4318; empty: no traces")
    traces_share: float = Field(default=1.0, ge=0, le=1, description="fraction of the requests that are traced")
    keys: str = Field(default="", description="file of hashed API keys, made by `python -m tasks.serving key`; empty: no key is required")
    requests_per_second: float = Field(default=0.0, ge=0, description="maximum rate of one client, on average; 0: no limit")
    certificate: str = Field(default="", description="file of the TLS certificate in PEM format; empty: no TLS")
    certificate_key: str = Field(default="", description="file of the private key of the certificate")

    def session_threads(self) -> int:
        """CPU threads of one session."""
        return self.threads or cores(self.sessions)
