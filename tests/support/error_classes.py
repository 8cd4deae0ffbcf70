"""Find every exception class of the SDK and of its HTTP library, in the versions that are installed.

Tests in this environment use it, and kernels of other environments, which have no pytest.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator

import anthropic
import httpx2

from nbchat.transports.error_mapping import KINDS

__all__ = ["HOUSES", "ROOTS", "error_classes", "named", "unmapped"]

#: The root classes, which no row may name, because such a row would cover every later class.
ROOTS = {"anthropic.AnthropicError", "anthropic.APIError", "httpx2.HTTPError", "httpx2.RequestError"}
HOUSES = ("anthropic", "httpx2")


def named(kind: type) -> str:
    """Return the full name of a class, as in the rows of the table."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _subclasses(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


def error_classes() -> dict[str, type[BaseException]]:
    """Return all exception classes of both packages, after importing all modules that can be imported."""
    for house in (anthropic, httpx2):
        for module in pkgutil.walk_packages(house.__path__, f"{house.__name__}."):
            try:
                importlib.import_module(module.name)
            except ImportError:
                continue  # needs a library that is not installed: aiohttp, wsproto
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in HOUSES:
            for value in list(vars(module).values()):
                if inspect.isclass(value) and issubclass(value, BaseException):
                    found[named(value)] = value
    # Some classes of a module that could not be imported stay alive until they are garbage-collected.
    loaded = {kind for kind in _subclasses(BaseException) if kind.__module__ in sys.modules}
    found.update((named(kind), kind) for kind in loaded)
    return {name: kind for name, kind in found.items() if name.partition(".")[0] in HOUSES}


def unmapped(classes: dict[str, type[BaseException]]) -> list[str]:
    """Return the classes that neither have a row nor inherit from a class of their own library that has one.

    A base class of Python says nothing about the error.
    """
    rows = {row for row in KINDS if row.partition(".")[0] in HOUSES}
    return [name for name in sorted(set(classes) - ROOTS) if rows.isdisjoint(map(named, classes[name].__mro__))]
