"""The name under which nbchat is installed, which is not the name under which it is imported, and its version.

On the package index, `nbchat` is an unrelated project. The name is also in pyproject.toml, and the build reads
the version from here.
"""

from __future__ import annotations

__all__ = ["DISTRIBUTION", "__version__", "installed_version"]

DISTRIBUTION = "nbchat-magic"
__version__ = "0.2.0.dev0"


def installed_version() -> str:
    """Return the version of the installed distribution; without one, as in a checkout, that of the source."""
    from importlib import metadata  # here, because `import nbchat` imports this module

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return __version__
