"""What an operator needs."""
