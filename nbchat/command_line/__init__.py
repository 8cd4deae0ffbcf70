"""The commands of ``python -m nbchat``."""
