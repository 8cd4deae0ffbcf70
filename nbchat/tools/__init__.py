"""The tools that Claude may call: Python functions and MCP servers, their schemas and their approval."""
