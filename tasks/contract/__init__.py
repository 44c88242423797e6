"""What everything else is written against: records, use cases, codecs, artifacts and errors. It imports nothing else of the project."""
