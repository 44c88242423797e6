"""The gRPC messages of the Open Inference Protocol, with the names and numbers of its public definition (package `inference`).

They are built at import, since generated code would be tied to one version of protobuf.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE, SERVICE = "inference", "inference.GRPCInferenceService"
DEFINED = """
ServerLiveRequest
ServerLiveResponse: live bool 1
ServerReadyRequest
ServerReadyResponse: ready bool 1
ModelReadyRequest: name string 1, version string 2
ModelReadyResponse: ready bool 1
ServerMetadataRequest
ServerMetadataResponse: name string 1, version string 2, extensions string* 3
ModelMetadataRequest: name string 1, version string 2
TensorMetadata: name string 1, datatype string 2, shape int64* 3
ModelMetadataResponse: name string 1, versions string* 2, platform string 3, inputs TensorMetadata* 4, outputs TensorMetadata* 5
Parameter: bool_param bool 1, int64_param int64 2, string_param string 3, double_param double 4, uint64_param uint64 5
ParameterEntry: key string 1, value Parameter 2
Contents: bool_contents bool* 1, int_contents int32* 2, int64_contents int64* 3, uint_contents uint32* 4, uint64_contents uint64* 5
Contents: fp32_contents float* 6, fp64_contents double* 7, bytes_contents bytes* 8
InputTensor: name string 1, datatype string 2, shape int64* 3, parameters ParameterEntry* 4, contents Contents 5
WantedTensor: name string 1, parameters ParameterEntry* 2
ModelInferRequest: model_name string 1, model_version string 2, id string 3, parameters ParameterEntry* 4
ModelInferRequest: inputs InputTensor* 5, outputs WantedTensor* 6, raw_input_contents bytes* 7
OutputTensor: name string 1, datatype string 2, shape int64* 3
ModelInferResponse: model_name string 1, model_version string 2, id string 3, outputs OutputTensor* 5, raw_output_contents bytes* 6
ModelConfigRequest: name string 1, version string 2
ConfigInput: name string 1, data_type int32 2, dims int64* 4
ConfigOutput: name string 1, data_type int32 2, dims int64* 3
ConfigCache: enable bool 1
ConfigBatching: max_queue_delay_microseconds uint64 2
ConfigInstances: name string 1, count int32 2
ModelConfig: name string 1, platform string 2, max_batch_size int32 4, input ConfigInput* 5, output ConfigOutput* 6
ModelConfig: instance_group ConfigInstances* 7, dynamic_batching ConfigBatching 11, backend string 17, response_cache ConfigCache 24
ModelConfigResponse: config ModelConfig 1
ModelStatisticsRequest: name string 1, version string 2
Duration: count uint64 1, ns uint64 2
InferStatistics: success Duration 1, fail Duration 2, queue Duration 3, compute_input Duration 4, compute_infer Duration 5
InferStatistics: compute_output Duration 6, cache_hit Duration 7, cache_miss Duration 8
BatchStatistics: batch_size uint64 1, compute_infer Duration 3
ModelStatistics: name string 1, version string 2, last_inference uint64 3, inference_count uint64 4, execution_count uint64 5
ModelStatistics: inference_stats InferStatistics 6, batch_stats BatchStatistics* 7
ModelStatisticsResponse: model_stats ModelStatistics* 1
RepositoryIndexRequest: repository_name string 1, ready bool 2
ModelIndex: name string 1, version string 2, state string 3, reason string 4
RepositoryIndexResponse: models ModelIndex* 1
RepositoryParameter: bool_param bool 1, int64_param int64 2, string_param string 3, bytes_param bytes 4
RepositoryEntry: key string 1, value RepositoryParameter 2
RepositoryModelLoadRequest: repository_name string 1, model_name string 2, parameters RepositoryEntry* 3
RepositoryModelLoadResponse
RepositoryModelUnloadRequest: repository_name string 1, model_name string 2, parameters RepositoryEntry* 3
RepositoryModelUnloadResponse
"""
"""One message per line, or several lines for a long one: name, type (* if repeated) and number of each field.

A map is written as on the wire, as a list of entries; a oneof as its fields.
"""


def _built() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    messages: dict[str, Any] = {}
    for line in DEFINED.strip().splitlines():
        name, _, fields = line.partition(":")
        message = messages.setdefault(name, None) or file.message_type.add(name=name)
        messages[name] = message
        for field in filter(None, fields.split(",")):
            called, kind, number = field.split()
            _add(message, called, kind, int(number))
    pool = descriptor_pool.DescriptorPool()  # a separate pool: other libraries may define messages of the same names
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in messages}


def _add(message: Any, name: str, kind: str, number: int) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    plain = kind.removesuffix("*")
    field = message.field.add(name=name, number=number, label=proto.LABEL_REPEATED if kind.endswith("*") else proto.LABEL_OPTIONAL)
    if plain[0].isupper():
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
    else:
        field.type = getattr(proto, f"TYPE_{plain.upper()}")


MESSAGES = _built()
