"""The Response, which the user has after a turn, and the Accumulator, which builds it from chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from nbchat.core.chunks import Notice, ResponseChunk, StreamChunk, ToolDecision, ToolResult, status_of
from nbchat.core.extension_points import provided
from nbchat.core.fields import Fields, one_line, storable
from nbchat.core.files import AnswerFile, AnswerFiles, file_ids
from nbchat.core.messages import (
    Block,
    Message,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    blocks_of,
    joined_text,
    stored,
    tool_calls,
)
from nbchat.core.misfit import Misfit
from nbchat.core.plural import counted
from nbchat.core.saved_files import write_json
from nbchat.core.usage import Usage

__all__ = ["Accumulator", "Response", "Status"]

Status: TypeAlias = Literal["complete", "interrupted", "incomplete", "refused", "error"]


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """An answer, with everything that nbchat knows about it.

    ``bool(response)`` is True if the answer is complete.

    Attributes:
        text: the answer, as Markdown.
        status: how the turn ended.
        blocks: the content blocks of the answers, in order.
        chunks: the chunks as they arrived.
        usage: the tokens of all requests of the turn.
        cost: the cost of all requests, in US dollars. None if a part of it is unknown.
        model: the model that answered.
        endpoint: the endpoint that was asked.
        stop_reason: the API's reason for the end of the last answer.
        stop_details: the API's details on a refusal.
        id: the API's id of the last answer.
        request_id: the API's id of the last request, for the support.
        duration: the time of the turn, in seconds.
        time_to_first_chunk: the time until something of the answer arrived, in seconds.
        prompt: the text of the prompt.
        messages: the whole turn: the prompt, the answers, and the results of tool calls.
        digest: the digest of the first request.
        parsed: the value of a typed answer (``--schema``), or a :class:`~nbchat.core.misfit.Misfit` if the
            answer does not fit its type.
        replayed: True if a cassette gave the answer.
        notes: a line for each part of the prompt that was cut, and for text that was changed.
        footer: the line that a view shows below the answer; "" for none. It is not saved.
        container: the service's container that code ran in, as the API describes it: ``id`` and
            ``expires_at``. {} if the container that was asked for is gone; None if there was none.
        files: the files that code of the answer made; ``files.save(folder)`` writes them.
        decisions: for each call of the user's tools, if it was allowed, and by whom.

    >>> response = Response("Use this:\\n```python\\nx = 1\\n```", model="claude-sonnet-5-5")
    >>> response.code, bool(response)
    ('x = 1', True)
    >>> response
    <Response complete claude-sonnet-5-5: 'Use this:\\n```python\\nx = 1\\n```', 0 → 0 tokens>
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
    container: Mapping[str, Any] | None = None
    files: AnswerFiles = field(default_factory=AnswerFiles)
    decisions: tuple[ToolDecision, ...] = ()
    footer: str = ""

    @property
    def thinking(self) -> str:
        """Return the thinking that the model showed, or ""."""
        return "".join(block.thinking for block in self.blocks if isinstance(block, ThinkingBlock))

    @property
    def tool_calls(self) -> tuple[ToolUseBlock, ...]:
        """Return the calls of the user's tools, in order. Calls of server tools are in ``blocks``."""
        return tool_calls(self.blocks)

    @property
    def code(self) -> str:
        """Return the source of all fenced code in the answer, with a blank line between two blocks."""
        return "\n\n".join(source for _, source in self.code_blocks)

    @property
    def code_blocks(self) -> tuple[tuple[str, str], ...]:
        """Return each fenced block of the answer as (language, source)."""
        return tuple(provided("fenced_code")(self.text))

    def table(self) -> Any:
        """Return ``parsed`` as a pandas DataFrame: a row for each item of a list, else one row.

        Raises:
            InputError: the answer has no type (``--schema`` asks for one), or pandas is not installed.

        >>> Response("", parsed=[{"name": "Ada", "age": 36}]).table()
          name  age
        0  Ada   36
        """
        return provided("table")(self)

    def __bool__(self) -> bool:
        return self.status == "complete"

    def __str__(self) -> str:
        return storable(self.text)  # print() cannot encode half a surrogate pair

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"<Response {self.status} {one_line(self.model) or '?'}: {text!r}, "
            f"{self.usage.prompt_tokens} → {counted(self.usage.completion_tokens, 'token')}>"
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return dict(provided("render")(self))

    def _mime_(self) -> tuple[str, str]:
        # marimo asks for this method: https://docs.marimo.io/guides/integrating_with_marimo/displaying_objects/
        kind, data = provided("marimo")(self)
        return kind, data

    def to_dict(self) -> dict[str, Any]:
        """Return everything but ``chunks`` as plain JSON values, which :meth:`from_dict` reads.

        A typed answer in ``parsed`` becomes plain dicts and lists, since its class is the user's own.

        >>> Response("Hello!").to_dict()["text"]
        'Hello!'
        """
        kept: dict[str, Any] = {"format": _FORMAT, "text": self.text}
        for name in _PLAIN_FIELDS:
            kept[name] = getattr(self, name)
        if self.notes:
            kept["notes"] = list(self.notes)
        if isinstance(self.parsed, Misfit):
            kept["misfit"] = {"message": self.parsed.message, "problems": list(self.parsed.problems)}
        elif self.parsed is not None:
            kept["parsed"] = provided("plain")(self.parsed)
        if self.stop_details is not None:
            kept["stop_details"] = dict(self.stop_details)
        if self.container is not None:
            kept["container"] = dict(self.container)
        if self.files:
            kept["files"] = [file.to_dict() for file in self.files]
        if self.decisions:
            kept["decisions"] = [decision.to_dict() for decision in self.decisions]
        kept["usage"] = self.usage.to_dict()
        kept["blocks"] = [stored(block) for block in self.blocks]
        kept["messages"] = [stored(message) for message in self.messages]
        return kept

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Response:
        """Return the Response that :meth:`to_dict` wrote.

        Raises:
            InputError: a field is missing or has another type.

        >>> Response.from_dict(Response("Hello!").to_dict()) == Response("Hello!")
        True
        """
        fields = Fields(kept)
        fields.check_format(_FORMAT)
        usage, misfit = fields.value("usage"), fields.value("misfit")
        return cls(
            text=fields.text("text"),
            status=cast(Status, fields.choice("status", get_args(Status), "complete")),
            blocks=blocks_of(fields, "blocks") if "blocks" in fields else (),
            usage=Usage.of_fields(fields.fields("usage")) if usage is not None else Usage(),
            cost=fields.optional_amount("cost"),
            model=fields.name("model", ""),
            endpoint=fields.name("endpoint", ""),
            stop_reason=fields.optional_text("stop_reason"),
            stop_details=fields.optional_mapping("stop_details"),
            id=fields.text("id", ""),
            request_id=fields.optional_text("request_id"),
            duration=fields.optional_amount("duration"),
            time_to_first_chunk=fields.optional_amount("time_to_first_chunk"),
            prompt=fields.text("prompt", ""),
            messages=tuple(Message.of_fields(message) for message in fields.each("messages", ())),
            digest=fields.text("digest", ""),
            parsed=fields.value("parsed") if misfit is None else _misfit(fields.fields("misfit")),
            replayed=fields.flag("replayed", False),
            # Each note is a line of its own in an export. A line end in one would begin another paragraph there.
            notes=tuple(one_line(note) for note in fields.texts("notes")),
            container=fields.optional_mapping("container"),
            files=AnswerFiles(
                AnswerFile.of_fields(file, fields.name("endpoint", "")) for file in fields.each("files", ())
            ),
            decisions=tuple(map(ToolDecision.of_fields, fields.each("decisions", ()))),
        )

    def save(self, path: str | Path) -> Path:
        """Write the Response as JSON that only its owner can read, and return the path.

        :func:`nbchat.load` reads the file.

        Raises:
            InputError: the file cannot be written, or holds a value that could not be loaded again.

        >>> import nbchat, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nbchat.load(Response("Hello!").save(f"{folder}/answer.json")).text
        'Hello!'
        """
        return write_json(path, self)


def _misfit(fields: Fields) -> Misfit:
    return Misfit(fields.text("message"), fields.texts("problems"))


_FORMAT = "nbchat.response/1"
_PLAIN_FIELDS = (
    *("status", "cost", "model", "endpoint", "stop_reason", "id", "request_id", "duration"),
    *("time_to_first_chunk", "prompt", "digest", "replayed"),
)


class Accumulator:
    """Build a Response from the chunks of a turn.

    A turn has one round for each request. A round ends with its ``response`` chunk, or with
    :meth:`cut` if the stream broke off.

    Args:
        prompt: the user's message.
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, prompt: Message, clock: Callable[[], float]) -> None:
        self._clock, self._began = clock, clock()
        self._first: float | None = None
        self._chunks: list[StreamChunk] = []
        self._messages: list[Message] = [prompt]
        self._results: list[ToolResult] = []
        self._last: ResponseChunk | None = None
        self._usage = Usage()
        self._container: Mapping[str, Any] | None = None

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk."""
        if self._first is None and not isinstance(chunk, Notice):
            self._first = self._clock() - self._began
        self._chunks.append(chunk)
        if isinstance(chunk, ResponseChunk):
            self._end_round(chunk)
        elif isinstance(chunk, ToolResult):
            self._results.append(chunk)

    def cut(self, partial: ResponseChunk) -> ResponseChunk | None:
        """End a round that broke off, and return it as it is counted, or None if nothing arrived.

        The API counts output at the end only, so the output is estimated from the text. Its tokens
        are billed all the same.
        """
        if not partial.message and not partial.blocks:
            return None
        if partial.stop_reason is None:
            partial = replace(partial, usage=partial.usage.estimate_output(_estimate_tokens(partial.blocks)))
        self._end_round(partial)
        return partial

    def _end_round(self, chunk: ResponseChunk) -> None:
        self._last = chunk
        self._usage = self._usage + chunk.usage
        container = chunk.message.get("container")
        if isinstance(container, Mapping) and isinstance(container.get("id"), str):
            self._container = dict(container)
        if any(_error_code(block) == "container_expired" for block in chunk.blocks):
            self.lose_container()
        if chunk.blocks:  # the API accepts no message without content
            self._messages.append(Message("assistant", chunk.blocks))

    def lose_container(self) -> None:
        """Note that the container of earlier answers is gone."""
        self._container = {}

    def answer_tools(self) -> None:
        """Add the user message with the tool results of this round to the turn."""
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
        self._messages.append(Message.of("user", results))

    def again(self) -> None:
        """Remove the last answer, which is asked for again. Its chunks and its cost stay."""
        if len(self._messages) > 1 and self._messages[-1].role == "assistant":
            self._messages.pop()

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the messages of the turn up to now."""
        return tuple(self._messages)

    @property
    def container(self) -> Mapping[str, Any] | None:
        """Return the container of the last answer that had one; {} if it is gone, None if there was none."""
        return self._container

    @property
    def usage(self) -> Usage:
        """Return the usage of the rounds that ended."""
        return self._usage

    @property
    def last(self) -> ResponseChunk | None:
        """Return the round that ended last."""
        return self._last

    def respond(self, status: Status, **fields: Any) -> Response:
        """Return the Response of everything that arrived. ``fields`` are those that only the session knows."""
        message = self._last.message if self._last else {}
        if status == "complete":
            status = status_of(message.get("stop_reason"))
        blocks = tuple(block for part in self._messages if part.role == "assistant" for block in part.content)
        fields = {"model": message.get("model") or ""} | fields
        if "files" not in fields:
            fields["files"] = AnswerFiles(
                AnswerFile(id, endpoint=fields.get("endpoint", "")) for id in file_ids(blocks)
            )
        return Response(
            text=joined_text(block for part in self._messages[1:] for block in part.content),
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
            container=self._container,
            decisions=tuple(chunk for chunk in self._chunks if isinstance(chunk, ToolDecision)),
            **fields,
        )


def _error_code(block: Block) -> object:
    """Return the code of the error in a server tool's result, or None."""
    content = block.data.get("content") if isinstance(block, OpaqueBlock) else None
    return content.get("error_code") if isinstance(content, Mapping) else None


def _estimate_tokens(blocks: tuple[Block, ...]) -> int:
    """Estimate tokens: four characters each (https://platform.claude.com/docs/en/about-claude/glossary#tokens)."""
    characters = 0
    for block in blocks:
        match block:
            case TextBlock():
                characters += len(block.text)
            case ThinkingBlock():
                characters += len(block.thinking)
            case ToolUseBlock():
                characters += len(block.arguments)
    return -(-characters // 4)
