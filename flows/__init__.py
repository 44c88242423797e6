"""In what order: one file per vertical."""
