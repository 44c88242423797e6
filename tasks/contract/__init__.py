"""The interfaces of the project: records, use cases, codecs, artifacts and errors. It imports nothing else of the project."""
