"""Answer requests from a bundle with ONNX Runtime and NumPy alone."""
