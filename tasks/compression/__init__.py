"""Compression: methods that fine-tune a smaller network (pruning, QAT, ...), and quantisation of exported graphs."""
