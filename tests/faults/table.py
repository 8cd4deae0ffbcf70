"""The table of all faults, and the server that has them.

A stall is missing here, because each would take as long as its limit: tests/contract/test_trickle.py has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.faults import of_bodies, of_fields, of_http, of_streams
from tests.faults.answers import KINDS, events_of, follow_up, message_of
from tests.faults.fault import MODES, Fault
from tests.faults.history import problems_of
from tests.faults.state import REFUSED
from tests.support.server import Received, Wire, serving, streaming

__all__ = ["FAULTS", "Asked", "Case", "case_of", "cases", "fault_server", "half_of_the_cases", "some_cases"]


def _right(wire: Wire, mode: str, kind: str) -> None:
    if mode == "stream":
        streaming(events_of(kind))(wire, Received("", {}, {}))
    else:
        wire.json("200 OK", message_of(kind))


FAULTS: tuple[Fault, ...] = (
    Fault(
        "no fault",
        "complete",
        lambda wire, kind: _right(wire, "stream", kind),
        lambda wire, kind: _right(wire, "whole", kind),
    ),
    *of_http.faults(),
    *of_streams.faults(),
    *of_fields.faults(),
    *of_bodies.faults(),
)
assert len({fault.name for fault in FAULTS}) == len(FAULTS), "two faults have one name"


@dataclass(frozen=True, slots=True)
class Case:
    """A fault in an answer of some kind, streamed or not."""

    number: int
    mode: str
    kind: str

    @property
    def fault(self) -> Fault:
        """The fault."""
        return FAULTS[self.number]

    @property
    def id(self) -> str:
        """The name of the case, which is its prompt and its conversation, too."""
        return f"case-{self.number}-{self.mode}-{self.kind}"

    @property
    def prompt(self) -> str:
        """The prompt."""
        return f"{self.id} {REFUSED}" if self.fault.name == "refused" else self.id


def cases() -> list[Case]:
    """Return all cases, in the order of the table."""
    return [Case(number, *case) for number, fault in enumerate(FAULTS) for case in fault.cases()]


def some_cases() -> list[Case]:
    """Return one case of each fault. The modes and the kinds of answers take turns."""
    return [Case(number, *(chosen := fault.cases())[number % len(chosen)]) for number, fault in enumerate(FAULTS)]


def half_of_the_cases() -> list[Case]:
    """Return two cases of each fault that has four: both modes and both kinds of answers, in pairs that take turns."""
    chosen = []
    for number, fault in enumerate(FAULTS):
        own = fault.cases()
        pairs = own if len(own) < 4 else [own[0], own[3]] if number % 2 else [own[1], own[2]]
        chosen += [Case(number, *case) for case in pairs]
    return chosen


@dataclass(slots=True)
class Asked:
    """What the server was asked.

    Args:
        posts: The number of requests of each case, with those after a tool call.
        first: The number of requests of each case before a tool call.
        bodies: The last request of each case.
        problems: What the Messages API would not have accepted.
    """

    posts: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def case_of(text: str) -> Case | None:
    """Return the case that a prompt names."""
    found = re.search(rf"case-(\d+)-({'|'.join(MODES)})-({'|'.join(KINDS)})", text)
    return Case(int(found[1]), found[2], found[3]) if found else None


@contextmanager
def fault_server() -> Iterator[tuple[str, Asked]]:
    """Run the server, and give its address and what it was asked."""
    asked = Asked()

    def handler(wire: Wire, request: Received) -> None:
        messages = request.body["messages"]
        prompts = [message for message in messages if message["role"] == "user" and not _results(message)]
        case = case_of(str(prompts[-1]["content"]))
        assert case is not None
        asked.problems += [f"{case.id}: {problem}" for problem in problems_of(messages)]
        again = "again" in str(prompts[-1]["content"])
        name = f"{case.id} again" if again else case.id
        asked.posts[name] = asked.posts.get(name, 0) + 1
        asked.bodies[name] = request.body
        if again or _results(messages[-1]):
            if request.body.get("stream"):
                streaming(follow_up("Done."))(wire, request)
            else:
                wire.json("200 OK", {**message_of("text"), "content": [{"type": "text", "text": "Done."}]})
            return
        asked.first[case.id] = asked.first.get(case.id, 0) + 1
        case.fault.serve(wire, case.mode, case.kind)

    with serving(handler) as server:
        yield server.url, asked


def _results(message: dict[str, Any]) -> bool:
    """Return True if a message has results of tools."""
    content = message["content"]
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)
