"""What: one folder per vertical."""
