"""How a server serves. The descriptions are the documentation: the command line shows them."""

from __future__ import annotations

from pydantic import Field

from tasks.contract.cores import cores
from tasks.contract.records import Record
from tasks.serving.sessions import Device


class Serving(Record):
    host: str = Field(default="127.0.0.1", description="address to listen at; 0.0.0.0: all of the machine's, for others, too")
    port: int = Field(default=8000, ge=0, le=65535, description="of HTTP; 0: any that is free")
    grpc_port: int = Field(default=0, ge=0, le=65535, description="of gRPC, such as 8001; 0: none")
    sessions: int = Field(default=1, ge=1, le=64, description="of each model, each in a thread of its own")
    threads: int = Field(
        default=1,
        ge=0,
        le=256,
        description="CPU threads of one session; 0: the cores that are really available, shared out among the sessions",
    )
    device: Device = Field(default="auto", description="that computes: cpu, cuda, or auto: a GPU where this ONNX Runtime has one")
    graph_cache: str = Field(default="", description="folder for graphs as they were optimised, so that they open sooner; empty: none")
    max_batch: int = Field(default=32, ge=1, description="rows of requests that are run together at most")
    max_rows: int = Field(default=1024, ge=1, description="of one request")
    queue: int = Field(default=256, ge=1, description="requests that may wait for a model; more are refused with 429")
    deadline_seconds: float = Field(default=30.0, gt=0, description="after which a request is given up, unless it says less itself")
    cache_megabytes: float = Field(default=64.0, ge=0, description="of answers that are remembered; 0: none")
    max_megabytes: float = Field(default=64.0, gt=0, description="of one request")
    watch_seconds: float = Field(default=0.0, ge=0, description="how often to look for new versions in the repository; 0: only when told")
    log_share: float = Field(default=0.0, ge=0, le=1, description="of the requests that leave a line in the log, without what was sent")
    predictions: str = Field(default="", description="folder for a sample of what was asked and answered, in parquet; empty: none is kept")
    predictions_share: float = Field(default=0.01, ge=0, le=1, description="of the predictions that are kept there")
    predictions_megabytes: float = Field(default=1000.0, gt=0, description="of all their files; the oldest are removed first")
    traces: str = Field(default="", description="where traces are sent by OTLP, such as http://127.0.0.1:4318; empty: nowhere")
    traces_share: float = Field(default=1.0, ge=0, le=1, description="of the requests that are traced")
    keys: str = Field(default="", description="file of API keys, hashed: see `python -m tasks.serving key`; empty: everyone may ask")
    requests_per_second: float = Field(default=0.0, ge=0, description="of one client, on average; 0: any")
    certificate: str = Field(default="", description="file of the TLS certificate; empty: HTTP without TLS")
    certificate_key: str = Field(default="", description="file of its private key")

    def session_threads(self) -> int:
        """CPU threads of one session."""
        return self.threads or cores(self.sessions)
