"""Smaller and faster: an OnnxModel in, an OnnxModel out."""
