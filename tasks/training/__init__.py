"""The training engine: one LightningModule for all use cases, run in separate processes (a supervisor and its ranks)."""
