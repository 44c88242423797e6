"""Reusable Prefect tasks (the modules), and the engines that they call (the sub-packages)."""
