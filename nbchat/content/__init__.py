"""Content blocks of the Messages API. This package is below `context` and `tools`."""
