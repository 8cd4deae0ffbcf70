"""Faults of streams: events that are missing, doubled, out of order or unknown, lines, errors, and reasons to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.answers import stream_of, until
from tests.faults.fault import BROKE, LIVES, LOST, Fault, streamed, whole

__all__ = ["faults"]

Events = list[dict[str, Any]]
PING = {"type": "ping"}


def faults() -> Iterator[Fault]:
    """Yield the faults."""
    yield from _orders()
    yield from _unknown()
    yield from _lines()
    yield from _errors()
    yield from _ends()
    yield from _arguments()


def _without(*types: str) -> Callable[[Events], list[Any]]:
    return lambda events: [event for event in events if event["type"] not in types]


def _doubled(kind: str) -> Callable[[Events], list[Any]]:
    return lambda events: [copy for event in events for copy in [event] * (1 + (event["type"] == kind))]


def _at(stage: str, *more: Any) -> Callable[[Events], list[Any]]:
    """Return a change that puts more events before a stage."""

    def change(events: Events) -> list[Any]:
        place = until(events, stage)
        return [*events[:place], *more, *events[place:]]

    return change


def _indexed(number: Callable[[int], Any]) -> Callable[[Events], list[Any]]:
    return lambda events: [
        {**event, "index": number(event["index"])} if "index" in event else event for event in events
    ]


def _orders() -> Iterator[Fault]:
    yield streamed("no message_start", BROKE, _without("message_start"))
    yield streamed("no content_block_start", BROKE, _without("content_block_start"))
    yield streamed("no content_block_stop", LIVES, _without("content_block_stop"))
    yield streamed("no message_delta", LIVES, _without("message_delta"))
    yield streamed("no message_stop", BROKE, _without("message_stop"))
    yield streamed("no message_delta and no message_stop", BROKE, _without("message_delta", "message_stop"))
    yield streamed("only pings", LOST, lambda events: [PING] * 5)
    yield streamed("only message_start", BROKE, lambda events: events[:1])
    yield streamed("no blocks", "AnswerError", lambda events: [events[0], *events[-2:]])
    yield streamed("message_start twice", BROKE, _doubled("message_start"))
    yield streamed("content_block_start twice", BROKE, _doubled("content_block_start"))
    yield streamed("content_block_stop twice", LIVES, _doubled("content_block_stop"))
    yield streamed("message_delta twice", LIVES, _doubled("message_delta"))
    yield streamed("message_stop twice", LIVES, _doubled("message_stop"))
    yield streamed("the whole stream twice", LIVES, lambda events: [*events, *events])
    yield streamed("events after message_stop", LIVES, lambda events: [*events, events[2], PING, ("error", "{}")])
    yield streamed("message_stop in the middle", LIVES, _at("middle", {"type": "message_stop"}))
    yield streamed("the events backwards", BROKE, lambda events: events[::-1])
    yield streamed("a delta before its block", BROKE, lambda events: [events[0], events[2], *events[1:]])
    yield streamed("a delta after its block", BROKE, lambda events: [*events[:-2], events[2], *events[-2:]])
    yield streamed("indexes that begin at 5", LIVES, _indexed(lambda index: index + 5))
    yield streamed("indexes that go down", LIVES, _indexed(lambda index: -index))
    yield streamed("indexes of 20 digits", LIVES, _indexed(lambda index: index + 10**20))
    yield streamed("one index for all blocks", {"": BROKE, "text": LIVES}, _indexed(lambda index: 0))
    yield streamed(
        "blocks that overlap",
        LIVES,
        lambda events: [
            events[0],
            *[event for event in events if event["type"] == "content_block_start"],
            *[event for event in events[1:] if event["type"] != "content_block_start"],
        ],
    )
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    starts = {"type": "content_block_start", "index": 7, "content_block": call}
    yield streamed("two calls with one id", BROKE, _at("delta of the message", starts), kinds=("tool",))


def _unknown() -> Iterator[Fault]:
    deep = "[" * 5_000 + "]" * 5_000
    for data in (
        "{}", "[1]", '"x"', "5", "null", "not JSON", '{"type": 5}', '{"type": null}', '{"x": 1e400}', '{"x": NaN}',
        '{"x": "\\ud800"}', f'{{"x": {deep}}}', '{"type": "text_delta", "text": "no"}',
    ):  # fmt: skip
        title = data if len(data) < 60 else "nesting"
        yield streamed(f"an unknown event with the data {title}", LIVES, _at("middle", ("of_next_year", data)))
    for data in ("{}", "[1]", "null", "not JSON", '{"type": "ping", "x": [1]}'):
        yield streamed(f"a ping with the data {data}", LIVES, _at("middle", ("ping", data)))
    yield streamed("1,000 pings", LIVES, _at("middle", *[PING] * 1_000))
    for delta in ({"type": "of_next_year", "x": [1]}, {"type": "text_delta_2", "text": 5}):
        event = {"type": "content_block_delta", "index": 0, "delta": delta}
        yield streamed(f"an unknown delta {delta}", LIVES, _at("delta", event))
    for block in (
        {"type": "of_next_year", "x": {"y": [1, None]}},
        {"type": "of_next_year"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_9", "content": []},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": ""},
        {"type": "text", "text": " \n"},
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!!"}},
    ):
        event = {"type": "content_block_start", "index": 9, "content_block": block}
        stop = {"type": "content_block_stop", "index": 9}
        yield streamed(f"one more block {json.dumps(block)}", LIVES, _at("delta of the message", event, stop))
        yield whole(
            f"one more block {json.dumps(block)} in a body",
            LIVES,
            lambda message, block=block: {**message, "content": [*message["content"], block]},
        )


def _lines() -> Iterator[Fault]:
    def edited(*edits: tuple[bytes, bytes]) -> Callable[[Events], bytes]:
        def change(events: Events) -> bytes:
            data = stream_of(events)
            for old, new in edits:
                data = data.replace(old, new)
            return data

        return change

    yield streamed("lines that end with CRLF", LIVES, edited((b"\n", b"\r\n")))
    yield streamed("lines that end with CR", LIVES, edited((b"\n", b"\r")))
    yield streamed("a byte order mark", LIVES, lambda events: b"\xef\xbb\xbf" + stream_of(events))
    yield streamed("blank lines before the stream", LIVES, lambda events: b"\n\n\n" + stream_of(events))
    yield streamed("many blank lines", LIVES, edited((b"\n\n", b"\n\n\n\n")))
    yield streamed("comments", LIVES, edited((b"event:", b": keep-alive\nevent:")))
    yield streamed("ids and times to wait", LIVES, edited((b"event:", b"id: 5\nretry: 10\nevent:")))
    yield streamed("no space after the colon", LIVES, edited((b"event: ", b"event:"), (b"data: ", b"data:")))
    yield streamed("fields that nobody knows", LIVES, edited((b"event:", b"x: y\nz\nevent:")))
    yield streamed("data in two lines", LIVES, edited((b'{"type"', b'{\ndata: "type"')))
    yield streamed("no blank line after the last event", BROKE, lambda events: stream_of(events).rstrip())
    yield streamed("[DONE] at the end", LIVES, lambda events: stream_of(events) + b"data: [DONE]\n\n")
    yield streamed("an event without data", LIVES, _at("middle", b"event: content_block_delta\n\n"))
    yield streamed("a NUL between two events", LIVES, _at("middle", b"\0\n\n"))
    yield streamed("no names of events", LIVES, _unnamed)
    yield streamed("no types in the data of events", LIVES, _untyped)
    yield streamed("a body that is not UTF-8", {"": BROKE}, _at("middle", b"event: ping\ndata: \xff\xfe{}\n\n"))
    yield streamed("a megabyte in one line", LIVES, _at("middle", b"x: " + b"y" * 1_000_000 + b"\n\n"))
    for title, data in {
        "that is not JSON": '{"type": "content_block_delta", "index"',
        "that is a list": "[1, 2]",
        "that is a number": "5",
        "that is a null": "null",
        "that is a string": '"x"',
        "without a type": '{"index": 0, "delta": {"type": "text_delta", "text": "x"}}',
        "that is nested 50,000 deep": "[" * 50_000 + "]" * 50_000,
        "with NaN": '{"type": "content_block_delta", "index": NaN, "delta": {}}',
        "with a newline in a string": '{"type": "ping", "x": "\ndata: y"}',
    }.items():
        # The name of an event is the type of data without a type. Only a text takes a delta of text.
        seen: Any = {"text": LIVES, "": BROKE} if title == "without a type" else BROKE
        yield streamed(f"a delta {title}", seen, _at("middle", ("content_block_delta", data)))
        seen = BROKE if title in ("with NaN", "without a type") else LOST
        yield streamed(f"a message_start {title}", seen, lambda events, data=data: [("message_start", data)])


def _unnamed(events: Events) -> bytes:
    lines = stream_of(events).split(b"\n")
    return b"\n".join(line for line in lines if not line.startswith(b"event:"))


def _untyped(events: Events) -> list[Any]:
    return [(event.pop("type"), json.dumps(event)) for event in events]


#: Each type of an error, the class of an error before the answer, and how often nbchat asks.
ERRORS = {
    "invalid_request_error": ("BadRequestError", 1),
    "authentication_error": ("AuthError", 1),
    "permission_error": ("AuthError", 1),
    "billing_error": ("AuthError", 1),
    "not_found_error": ("BadRequestError", 1),
    "request_too_large": ("BadRequestError", 1),
    "rate_limit_error": ("RateLimitError", 3),
    "api_error": ("OverloadedError", 3),
    "overloaded_error": ("OverloadedError", 3),
    "timeout_error": (LOST, 3),
    "of_next_year": ("BadRequestError", 1),
}


def _errors() -> Iterator[Fault]:
    for kind, (seen, asked) in ERRORS.items():
        error = {"type": "error", "error": {"type": kind, "message": "No \x1b[1mroom"}}
        yield streamed(
            f"an error {kind} before the answer",
            seen,
            lambda events, error=error: [error],
            asked=asked,
            kinds=("text",),
        )
        yield streamed(f"an error {kind} in the middle", BROKE, _at("middle", error))
        yield streamed(f"an error {kind} before message_stop", BROKE, _at("stop", error))
        yield whole(f"an error {kind} under status 200", seen, lambda message, error=error: error, also_streamed=True)
    for title, data in {
        "without an error": '{"type": "error"}',
        "that is a string": '{"type": "error", "error": "no room"}',
        "that is a list": '{"type": "error", "error": [1]}',
        "whose type is a number": '{"type": "error", "error": {"type": 5, "message": "no"}}',
        "whose type is a list": '{"type": "error", "error": {"type": [5], "message": "no"}}',
        "whose message is an object": '{"type": "error", "error": {"type": "api_error", "message": {"a": 1}}}',
        "whose message is a megabyte": json.dumps(
            {"type": "error", "error": {"type": "invalid_request_error", "message": "x" * 1_000_000}}
        ),
        "that is not JSON": "no room",
        "that is nested 50,000 deep": "[" * 50_000,
    }.items():
        yield streamed(f"an error {title} in the middle", BROKE, _at("middle", ("error", data)))
        seen, asked = ERRORS["api_error" if "api_error" in data else "invalid_request_error"]
        yield streamed(
            f"an error {title} before the answer", seen, lambda events, data=data: [("error", data)], asked=asked
        )


def _ends() -> Iterator[Fault]:
    for reason, seen in {
        "max_tokens": "incomplete", "model_context_window_exceeded": "incomplete", "stop_sequence": LIVES,
        "refusal": "RefusedError", "content_filter": "RefusedError", "length": "incomplete", "of_next_year": LIVES,
        "": LIVES, None: LIVES, "stop": LIVES, "tool_use": LIVES, "end_turn": LIVES,
    }.items():  # fmt: skip

        def ended(events: Events, reason: str | None = reason) -> list[Any]:
            delta = {**events[-2], "delta": {"stop_reason": reason, "stop_sequence": None}}
            return [*events[:-2], delta, events[-1]]

        yield streamed(f"the reason to end {reason!r}", seen, ended)
        yield whole(
            f"the reason to end {reason!r} in a body",
            seen,
            lambda message, reason=reason: {**message, "stop_reason": reason},
        )
    for title, details in {
        "details": {"type": "refusal", "category": "x", "explanation": "No \x1b[1mway"},
        "details that are a string": "no",
        "an explanation that is a list": {"explanation": ["no"]},
        "details that are a null": None,
    }.items():

        def refusal(events: Events, details: Any = details) -> list[Any]:
            delta = {**events[-2], "delta": {"stop_reason": "refusal", "stop_details": details}}
            return [*events[:-2], delta, events[-1]]

        yield streamed(f"a refusal with {title}", "RefusedError", refusal)
        yield whole(
            f"a refusal with {title} in a body",
            "RefusedError",
            lambda message, details=details: {**message, "stop_reason": "refusal", "stop_details": details},
        )


#: The text of arguments, and True if a tool can run with them.
ARGUMENTS = {
    "": True, "{}": True, " {} ": True, '{"a": 1, "a": 2}': True, '{"a": 1e308}': True, '{"a": "\\u0000"}': True,
    '{"a": {"b": [1, null]}}': True, "null": False, "[]": False, '"x"': False, "5": False, '{"a": 1': False,
    '{"a": 1}}': False, '{"a": 1} {"b": 2}': False, "{'a': 1}": False, '{"a": 1,}': False, '{"a": 1e400}': False,
    '{"a": -1e400}': False, '{"a": NaN}': False, '{"a": Infinity}': False, '{"a": "\\ud800"}': False,
    '{"\\udc00": 1}': False, '{"a": "\x01"}': False, "\ufeff{}": False, '{"a": 1_0}': False, "{" * 5_000: False,
    '{"a": ' + "[" * 150 + "]" * 150 + "}": False, '{"a": ' + "[" * 990 + "]" * 990 + "}": False,
    '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}": False, '{"a": ' + '{"a": ' * 400 + "1" + "}" * 401: False,
    '{"a": ' + "9" * 5_000 + "}": False,
}  # fmt: skip


#: What the SDK cannot read in an event.
_NOT_READ = ("5,000 digits", "990 levels")


def _arguments() -> Iterator[Fault]:
    for text in ARGUMENTS:

        def change(events: Events, text: str = text) -> list[Any]:
            start, first = until(events, "middle") - 1, events[until(events, "middle") - 1]
            assert first["delta"]["type"] == "input_json_delta"
            delta = {**first, "delta": {"type": "input_json_delta", "partial_json": text}}
            return [*events[:start], delta, *events[-3:]]

        shown = repr(text) if len(text) < 30 else f"{text[:12]!r} … ({len(text)} characters)"
        yield streamed(f"the arguments {shown}", LIVES, change, kinds=("tool",))
    for title, text in {
        "null": "null", "a list": "[1]", "a string": '"{}"', "a number": "5", "1e400": '{"a": 1e400}',
        "NaN": '{"a": NaN}', "half of a pair": '{"a": "\\ud800"}', "5,000 digits": '{"a": ' + "9" * 5_000 + "}",
        "150 levels": '{"a": ' + "[" * 150 + "]" * 150 + "}", "990 levels": '{"a": ' + "[" * 990 + "]" * 990 + "}",
    }.items():  # fmt: skip

        def spoiled(message: dict[str, Any], text: str = text) -> bytes:
            return json.dumps(message).encode().replace(b'{"a": 2, "b": 3}', text.encode())

        def began(events: Events, text: str = text) -> list[Any]:
            start = next(place for place, event in enumerate(events) if "toolu_1" in json.dumps(event))
            data = json.dumps(events[start]).replace('"input": {}', f'"input": {text}')
            return [*events[:start], ("content_block_start", data), *events[-3:]]

        yield whole(f"arguments of a body: {title}", LIVES, spoiled, kinds=("tool",))
        seen = BROKE if title in _NOT_READ else LIVES
        yield streamed(f"arguments at the start of a call: {title}", seen, began, kinds=("tool",))
