"""How every vertical reads files: tables, encodings, class folders, names of splits, archives and digests."""
