"""Rows: one template over many rows, with results on disk before they are shown."""
