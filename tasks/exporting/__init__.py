"""From a checkpoint to a checked ONNX graph."""
