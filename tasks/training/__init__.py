"""Training in processes of its own: one LightningModule, one loop, a supervisor and its ranks."""
