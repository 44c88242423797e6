"""Readers that the verticals share: tables, encodings, class folders, names of splits, archives and digests."""
