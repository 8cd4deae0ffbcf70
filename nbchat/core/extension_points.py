"""Functions of other rooms that core calls by name.

A :class:`~nbchat.core.response.Response` can render itself, but core must not import the renderer.
``nbchat/__init__.py`` therefore says here where each function is. The function is imported when
it is first called, so that ``import nbchat`` stays light.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["provide", "provided"]

_places: dict[str, str] = {}


def provide(**places: str) -> None:
    """Say where functions are, each as ``"package.module:function"``."""
    _places.update(places)


def provided(name: str) -> Callable[..., Any]:
    """Return the function that was provided under ``name``.

    Raises:
        KeyError: nothing was provided under that name.
    """
    module, _, function = _places[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
