"""Response, what the user holds afterwards, and the Accumulator that makes it of chunks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nbchat.core.chunks import Notice, ResponseChunk, StreamChunk, ToolResult
from nbchat.core.extension_points import provided
from nbchat.core.messages import Block, Message, TextBlock, ThinkingBlock, ToolUseBlock, stored, tool_calls
from nbchat.core.usage import Usage

__all__ = ["Accumulator", "Response", "Status", "fenced_code"]

Status: TypeAlias = Literal["complete", "interrupted", "incomplete", "refused", "error"]


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """An answer and all that is known of it.

    ``bool(response)`` says whether it is complete. Times are in seconds, costs in US dollars;
    a cost that is not known is None. ``messages`` is the whole turn: the prompt, the answer and,
    between them, tool calls and their results. ``usage`` and ``cost`` add up every request of
    the turn. ``notes`` say what was cut of what went along, a line each.
    """

    text: str
    status: Status = "complete"
    blocks: tuple[Block, ...] = ()
    chunks: tuple[StreamChunk, ...] = field(default=(), compare=False)
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    endpoint: str = ""
    stop_reason: str | None = None
    stop_details: Mapping[str, Any] | None = None
    id: str = ""
    request_id: str | None = None
    duration: float | None = None
    time_to_first_chunk: float | None = None
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    digest: str = ""
    parsed: Any = None
    replayed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def thinking(self) -> str:
        """The thinking, as far as the model showed it; "" without any."""
        return "".join(block.thinking for block in self.blocks if isinstance(block, ThinkingBlock))

    @property
    def tool_calls(self) -> tuple[ToolUseBlock, ...]:
        """The calls of the user's tools, in order; those of server tools are in ``blocks``."""
        return tool_calls(self.blocks)

    @property
    def code(self) -> str:
        """The source of all fenced code in the answer, in order, a blank line between."""
        return "\n\n".join(source for _, source in self.code_blocks)

    @property
    def code_blocks(self) -> tuple[tuple[str, str], ...]:
        """Each fenced block of the answer as (language, source)."""
        return tuple(fenced_code(self.text))

    def table(self) -> Any:
        """A pandas DataFrame of ``parsed``: a row for each item of a list, one row for anything else.

        Raises:
            InputError: nothing was parsed (``--schema`` asks for a type), or pandas is not installed.
        """
        return provided("table")(self)

    def __bool__(self) -> bool:
        return self.status == "complete"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"<Response {self.status} {self.model or '?'}: {text!r}, "
            f"{self.usage.prompt_tokens} → {self.usage.completion_tokens} tokens>"
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return dict(provided("render")(self))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but ``chunks`` as plain JSON values, which :meth:`from_dict` reads.

        A typed answer in ``parsed`` becomes plain dicts and lists, since its class is the user's own.
        """
        kept: dict[str, Any] = {"format": "nbchat.response/1", "text": self.text}
        for name in _PLAIN_FIELDS:
            kept[name] = getattr(self, name)
        if self.notes:
            kept["notes"] = list(self.notes)
        if self.parsed is not None:
            kept["parsed"] = provided("plain")(self.parsed)
        if self.stop_details is not None:
            kept["stop_details"] = dict(self.stop_details)
        kept["usage"] = self.usage.to_dict()
        kept["blocks"] = [stored(block) for block in self.blocks]
        kept["messages"] = [stored(message) for message in self.messages]
        return kept

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Response:
        """The Response of :meth:`to_dict`."""
        held = {name: kept[name] for name in ("text", "stop_details", "parsed", *_PLAIN_FIELDS) if name in kept}
        return cls(
            **held,
            notes=tuple(kept.get("notes") or ()),
            usage=Usage.from_dict(kept.get("usage") or {}),
            blocks=Message.of("assistant", kept.get("blocks") or ()).content,
            messages=tuple(Message.from_dict(message) for message in kept.get("messages") or ()),
        )

    def save(self, path: str | Path) -> Path:
        """Write the Response as JSON; ``nbchat.load(path)`` reads it. Gives the path.

        The one place where core writes, and only at the user's word.
        """
        path, kept = Path(path), self.to_dict()
        try:
            path.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except UnicodeEncodeError:  # half a surrogate pair, which models do send: it is kept as an escape
            path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        return path


_PLAIN_FIELDS = (
    *("status", "cost", "model", "endpoint", "stop_reason", "id", "request_id", "duration"),
    *("time_to_first_chunk", "prompt", "digest", "replayed"),
)


class Accumulator:
    """Folds the chunks of a turn into a Response.

    A turn has a round for each request. A round ends with its ``response`` chunk, or is
    :meth:`cut` when the stream broke off; :meth:`respond` gives the Response at any time.
    ``clock`` is read for times, in seconds.
    """

    def __init__(self, prompt: Message, clock: Callable[[], float]) -> None:
        self._clock, self._began = clock, clock()
        self._first: float | None = None
        self._chunks: list[StreamChunk] = []
        self._messages: list[Message] = [prompt]
        self._results: list[ToolResult] = []
        self._last: ResponseChunk | None = None
        self._usage = Usage()

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk."""
        if self._first is None and not isinstance(chunk, Notice):
            self._first = self._clock() - self._began
        self._chunks.append(chunk)
        if isinstance(chunk, ResponseChunk):
            self._end_round(chunk)
        elif isinstance(chunk, ToolResult):
            self._results.append(chunk)

    def cut(self, sofar: ResponseChunk) -> ResponseChunk | None:
        """End a round that broke off. Output the API did not count is estimated from the text.

        Gives the round as it is counted, or None where nothing had come.
        """
        if not sofar.message and not sofar.blocks:
            return None
        if sofar.stop_reason is None:
            sofar = replace(sofar, usage=sofar.usage.estimate_output(_estimate_tokens(sofar.blocks)))
        self._end_round(sofar)
        return sofar

    def _end_round(self, chunk: ResponseChunk) -> None:
        self._last = chunk
        self._usage = self._usage + chunk.usage
        if chunk.blocks:  # a message without content is none, for the API too
            self._messages.append(Message("assistant", chunk.blocks))

    def answer_tools(self) -> Message:
        """The user message that carries the tool results of this round; it joins the turn."""
        results = [
            {
                "type": "tool_result",
                "tool_use_id": result.tool_use_id,
                "content": [block.to_dict() for block in result.content],
                **({"is_error": True} if result.is_error else {}),
            }
            for result in self._results
        ]
        self._results.clear()
        message = Message.of("user", results)
        self._messages.append(message)
        return message

    def again(self) -> None:
        """Take back the last answer, which is asked for anew; what it cost and its chunks stay."""
        if len(self._messages) > 1 and self._messages[-1].role == "assistant":
            self._messages.pop()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turn so far."""
        return tuple(self._messages)

    @property
    def usage(self) -> Usage:
        """The usage of the rounds that ended."""
        return self._usage

    @property
    def last(self) -> ResponseChunk | None:
        """The round that ended last."""
        return self._last

    def respond(self, status: Status, **known: Any) -> Response:
        """The Response of all that arrived; ``known`` are fields that only the session knows."""
        message = self._last.message if self._last else {}
        if status == "complete":
            status = _STATUS.get(message.get("stop_reason") or "", "complete")
        blocks = tuple(block for part in self._messages if part.role == "assistant" for block in part.content)
        known = {"model": message.get("model") or ""} | known
        return Response(
            text=_joined(self._messages[1:]),
            status=status,
            blocks=blocks,
            chunks=tuple(self._chunks),
            usage=self._usage,
            stop_reason=message.get("stop_reason"),
            stop_details=message.get("stop_details"),
            id=message.get("id") or "",
            request_id=message.get("_request_id"),
            duration=self._clock() - self._began,
            time_to_first_chunk=self._first,
            prompt=self._messages[0].text,
            messages=tuple(self._messages),
            **known,
        )


#: An answer that ended by itself but is not complete: where it stopped at a limit, or declined.
_STATUS: dict[str, Status] = {
    "refusal": "refused",
    "max_tokens": "incomplete",
    "model_context_window_exceeded": "incomplete",
}


def _joined(messages: list[Message]) -> str:
    """The text of a turn: a blank line where tool results stood between, else nothing."""
    text, pause = "", ""
    for message in messages:
        if message.role == "assistant" and message.text:
            text, pause = text + (pause if text else "") + message.text, ""
        elif message.role == "user":
            pause = "\n\n"
    return text


def _estimate_tokens(blocks: tuple[Block, ...]) -> int:
    """About four characters a token (https://platform.claude.com/docs/en/about-claude/glossary#tokens)."""
    letters = 0
    for block in blocks:
        match block:
            case TextBlock():
                letters += len(block.text)
            case ThinkingBlock():
                letters += len(block.thinking)
            case ToolUseBlock():
                letters += len(block.arguments)
    return -(-letters // 4)


_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}(?=[^`]*$)|~{3,})[ \t]*(?P<info>.*)$")


def fenced_code(text: str) -> list[tuple[str, str]]:
    """The fenced code blocks of a Markdown text, as (language, source).

    Fences are CommonMark's (https://spec.commonmark.org/0.31.2/#fenced-code-blocks), at any
    indent, as in lists; the indent of the opening fence is taken off each line.
    """
    found: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = fence, []
        elif (
            fence
            and not fence["info"].strip()
            and fence["fence"][0] == opened["fence"][0]
            and len(fence["fence"]) >= len(opened["fence"])
        ):
            found.append((_language(opened), "\n".join(lines)))
            opened = None
        else:
            indent = len(opened["indent"])
            lines.append(line[indent:] if not line[:indent].strip() else line)
    if opened is not None and lines:
        found.append((_language(opened), "\n".join(lines)))
    return found


def _language(fence: re.Match[str]) -> str:
    words = fence["info"].split()
    return words[0].lower() if words else ""
