"""Measure the very graph that will be served."""
