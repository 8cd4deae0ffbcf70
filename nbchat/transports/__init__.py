"""Transports: objects that take a Request and yield the events of its answer. None of them imports another."""
