"""Export of checkpoints to ONNX graphs and bundles."""
