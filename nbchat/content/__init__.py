"""Content blocks of the Messages API, below context and tools."""
