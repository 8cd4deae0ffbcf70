"""The tools that the user allowed always: which ones, and for how long.

A permission is for one tool and not for a name. A name may mean another tool in the next cell: a function
that was defined again, a tool that its server describes in another way, or the tool of another server.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Permissions", "PermittedTool"]


class PermittedTool(Protocol):
    """The part of a tool that identifies it. :class:`~nbchat.tools.toolbox.Tool` documents the fields.

    A tool may also have an attribute ``origin``: a tuple of the objects that the tool calls, such as a
    function or a server. A tool without this attribute is its own origin.
    """

    name: str
    shown: str
    approve: str | None

    def definition(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class _Permission:
    """What the user saw as the tool when they allowed it always.

    Attributes:
        shown: The name that people read.
        definition: The definition and the policy of the tool, as JSON.
        origin: Returns each object that the tool calls, or None if the object is gone.
    """

    shown: str
    definition: str
    origin: tuple[Callable[[], object], ...]

    def is_for(self, tool: PermittedTool) -> bool:
        """Return True if ``tool`` has the same origin and the same definition."""
        origin = _origin_of(tool)
        return (
            self.is_alive
            and self.definition == _definition_of(tool)
            and len(self.origin) == len(origin)
            and all(refer() is thing for refer, thing in zip(self.origin, origin, strict=True))
        )

    @property
    def is_alive(self) -> bool:
        """True while the objects that the tool calls exist."""
        return all(refer() is not None for refer in self.origin)


class Permissions:
    """The tools of a session that run without a question, because the user answered "always".

    >>> permissions = Permissions()
    >>> len(permissions), list(permissions)
    (0, [])
    """

    def __init__(self) -> None:
        self._permissions: list[_Permission] = []

    def add(self, tool: PermittedTool) -> None:
        """Allow this tool always."""
        if tool not in self:
            origin = tuple(map(_reference, _origin_of(tool)))
            self._permissions.append(_Permission(tool.shown, _definition_of(tool), origin))

    def __contains__(self, tool: PermittedTool) -> bool:
        """Return True if the user allowed this tool always, and not only another tool of its name."""
        return any(permission.is_for(tool) for permission in self._permissions)

    def __iter__(self) -> Iterator[str]:
        """Return the names of the tools as people read them, in the order of the permissions."""
        self._forget_the_dead()
        return iter([permission.shown for permission in self._permissions])

    def __len__(self) -> int:
        self._forget_the_dead()
        return len(self._permissions)

    def discard(self, shown: str) -> bool:
        """Ask again for the tools of this name. Return False if none was allowed always."""
        before = len(self)
        self._permissions = [one for one in self._permissions if one.shown != shown]
        return len(self._permissions) < before

    def clear(self) -> None:
        """Ask again for every tool."""
        self._permissions.clear()

    def __repr__(self) -> str:
        return f"<Permissions: {', '.join(self) or 'none'}>"

    def _forget_the_dead(self) -> None:
        self._permissions = [permission for permission in self._permissions if permission.is_alive]


def _origin_of(tool: PermittedTool) -> tuple[object, ...]:
    origin: tuple[object, ...] = getattr(tool, "origin", (tool,))
    return origin


def _reference(thing: object) -> Callable[[], object]:
    """Return a weak reference, so that a permission keeps no server, function or data alive."""
    try:
        return weakref.ref(thing)
    except TypeError:
        # Some objects take no weak references. A strong one is needed then: a new object could otherwise
        # get the address of one that is gone.
        return lambda: thing


def _definition_of(tool: PermittedTool) -> str:
    # With the policy: whoever adds a server again with --approve ask wants to be asked.
    return json.dumps([tool.shown, tool.approve, tool.definition()], sort_keys=True, default=repr)
