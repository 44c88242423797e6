"""Readers of the standard layouts of texts with classes or spans."""
