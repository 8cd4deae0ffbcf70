"""Markdown to safe HTML. Pure."""
