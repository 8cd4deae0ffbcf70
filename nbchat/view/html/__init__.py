"""Markdown, typed values and tool calls as safe HTML. Pure: no clock, no display."""
