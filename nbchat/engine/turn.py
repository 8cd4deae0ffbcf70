"""The turn: one question and everything that answers it, as a state machine without I/O.

A turn says what to do next and is fed what came of it, as h11 does for a connection::

    turn.step is Send(request)   send the request; feed() its events; close(); advance()
    turn.step is Run(calls)      run the calls in order; answer() each; advance()
    turn.step is Done            the turn is complete; typed() has the typed answer

Whoever does the work is a driver (:mod:`nbchat.engine.drive`). The turn itself sends nothing,
runs nothing and waits for nothing, so that one turn serves cells and rows alike.

The rules:

1. A tool runs only after ``message_stop``, never in an answer that was cut or is a refusal,
   and only with arguments that are complete, strictly parsed JSON.
2. Every call gets one result. The results go back in the order of the calls, in one message.
3. A turn has at most ``max_rounds`` rounds. The last request keeps the tools, because the API
   refuses calls in the history without them, and sends ``tool_choice: none``, so that the turn
   ends with text.
4. However a turn ends, its messages form a history that the API accepts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nbchat.core.chunks import Notice, ResponseChunk, StreamChunk, ToolDecision, ToolResult, status_of
from nbchat.core.errors import (
    AnswerError,
    BadRequestError,
    ParseError,
    RefusedError,
    StreamError,
    TransportError,
    TruncatedError,
)
from nbchat.core.fields import LONE_HALF, has_lone_half
from nbchat.core.files import file_ids
from nbchat.core.messages import (
    Message,
    OpaqueBlock,
    TextBlock,
    ToolUseBlock,
    content_of,
)
from nbchat.core.misfit import Misfit
from nbchat.core.parser import ChatStreamParser
from nbchat.core.plural import counted
from nbchat.core.request import Request
from nbchat.core.response import Accumulator, Response, Status
from nbchat.core.sendable import resumable
from nbchat.core.stopping import is_stop
from nbchat.core.usage import Usage
from nbchat.engine.structured import ForcedAnswer, asked_again, forces_answer, read_answer
from nbchat.tools.toolbox import INTERRUPTED, Outcome

__all__ = ["Done", "Run", "Send", "Step", "Turn", "refused"]

#: How often a service may pause a turn and be asked to continue. A service that never finishes
#: would otherwise cost money for ever.
MAX_PAUSES = 10


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request and feed its events."""

    request: Request


@dataclass(frozen=True, slots=True)
class Run:
    """Run these calls, in this order."""

    calls: tuple[ToolUseBlock, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do."""


Step: TypeAlias = Send | Run | Done


class Turn:
    """One turn of a conversation.

    Args:
        request: the first request, complete.
        prompt: the user's message as the conversation keeps it. It can differ from the last message
            of ``request``, which may have instructions for a typed answer added.
        has_tools: whether calls of the answer can be run here.
        max_rounds: the most requests that tool calls can lead to.
        schema: the type of the answer, or None for prose.
        retry: whether to ask once more if the answer does not fit ``schema``.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self,
        request: Request,
        prompt: Message,
        *,
        clock: Callable[[], float],
        has_tools: bool = False,
        max_rounds: int = 8,
        schema: Any = None,
        retry: bool = False,
    ) -> None:
        self._first, self._has_tools, self._max_rounds = request, has_tools, max_rounds
        self._schema, self._retry = schema, retry
        self._accumulator = Accumulator(prompt, clock)
        self._round, self._pauses = 1, 0
        #: The value of the typed answer, once the turn is done.
        self.parsed: Any = None
        #: Lines for the user on what was changed while asking.
        self.notes: tuple[str, ...] = ()
        self._waiting: list[ToolUseBlock] = []  # calls without a result
        self._begin(request)

    def _begin(self, request: Request) -> None:
        """Make sending ``request`` the next step."""
        if self._accumulator.container is not None:
            # The API refuses results for calls from inside a container without the container's id.
            request = replace(request, container=self._accumulator.container.get("id", ""))
        if self._has_tools and self._round >= self._max_rounds:
            request = replace(request, params={**request.params, "tool_choice": {"type": "none"}})
        self.step: Step = Send(request)
        self._parser = ChatStreamParser()
        self._forced = ForcedAnswer() if forces_answer(request) else None
        self._ended: ResponseChunk | None = None

    # The answer to one request

    def feed(self, event: Mapping[str, Any]) -> StreamChunk | None:
        """Take one event of the answer, and return the chunk that sinks should see, if there is one.

        Raises:
            StreamError: the event is an error, or breaks the protocol.
        """
        if self._forced is not None:
            event = self._forced.translate(event)
        chunk = self._parser.feed(event)
        if chunk is not None:
            self._accumulator.feed(chunk)
            return chunk
        if event.get("type") == "message_start":
            return _cache_notice(event)
        return None

    def close(self) -> None:
        """Take the clean end of the answer.

        Raises:
            StreamError: the end came before ``message_stop``.
        """
        self._parser.close()

    def end_answer(self) -> ResponseChunk | None:
        """End the answer, however it ended, and return it as it will be counted.

        An answer that broke off stays in the turn as far as it arrived. None means that nothing arrived.
        """
        if self._parser.whole:
            self._ended = self._accumulator.last
        else:
            self._ended = self._accumulator.cut(self._parser.snapshot())
        if self._parser.has_lone_half:
            self._note(f"the answer had {LONE_HALF}")
        return self._ended

    def leave_container(self, failure: TransportError) -> Notice | None:
        """Prepare to ask again in a new container if the service refused the one of an earlier turn.

        Return a notice for sinks, or None if the failure has another reason, or if the turn itself
        has calls from inside the container, which no other container knows.
        """
        sent = isinstance(self.step, Send) and self.step.request.container
        refused = isinstance(failure, BadRequestError) and "container" in failure.message.lower()
        if not sent or not refused or len(self._accumulator.messages) > 1:
            return None
        self._accumulator.lose_container()
        self._begin(self._first)
        self._note("the container of the earlier turns was gone, with the files in it; a new one was used")
        return Notice("the container of the earlier turns is gone; asking again with a new one")

    def _note(self, note: str) -> None:
        self.notes = tuple(dict.fromkeys((*self.notes, note)))

    # The calls of one answer

    def decide(self, decision: ToolDecision) -> ToolDecision:
        """Take the decision about one call, and return it as the chunk that sinks should see."""
        self._accumulator.feed(decision)
        return decision

    def answer(self, call: ToolUseBlock, outcome: Outcome) -> ToolResult:
        """Take the result of one call, and return the chunk that sinks should see."""
        self._waiting = [waiting for waiting in self._waiting if waiting is not call]
        if has_lone_half(outcome.content):
            self._note(f"the result of {call.name} had {LONE_HALF}")
        result = ToolResult(call.id, content_of(outcome.content), outcome.is_error, outcome.shown)
        self._accumulator.feed(result)
        if not self._waiting:
            self._accumulator.answer_tools()
        return result

    def abandon_calls(self) -> Iterator[ToolResult]:
        """Give every call that has no result the result "interrupted", and yield the chunks.

        The API refuses a call without a result, so without this the conversation could not go on.
        """
        for call in tuple(self._waiting):
            yield self.answer(call, INTERRUPTED)

    # The next step

    def advance(self) -> Notice | None:
        """Decide on the next step, and return a notice for sinks if there is one.

        Call this after the answer to a request was closed and ended, and after all calls were answered.

        Raises:
            AnswerError: the answer has neither text nor a call, or calls tools in the last round.
            ParseError, TruncatedError: the answer does not fit the schema.
        """
        if isinstance(self.step, Run):
            self._round += 1
            self._begin_next()
            return None
        last = self._accumulator.last
        reason = last.stop_reason if last is not None else None
        calls = last.calls if last is not None and self._has_tools else ()
        if calls:
            if self._round >= self._max_rounds:
                raise _still_calling(self._max_rounds, calls)
            self._waiting = list(calls)
            self.step = Run(calls)
        elif self._first.is_continued_after(reason) and self._pauses < MAX_PAUSES:
            # The service paused a long turn, or it paused after a compaction. Its answer goes back as it is,
            # and the service continues:
            # https://platform.claude.com/docs/en/api/handling-stop-reasons#pause-turn
            self._pauses += 1
            self._begin_next()
        else:
            _refuse_empty(last, self._round)
            return self._finish(last)
        return None

    def _finish(self, last: ResponseChunk | None) -> Notice | None:
        if self._schema is not None:
            try:
                self.parsed = read_answer(last, self._schema)
            except (ParseError, TruncatedError) as error:
                problems = error.problems if isinstance(error, ParseError) else ()
                if not self._retry or not problems:
                    self.parsed = Misfit(error.message, problems)
                    raise
                self._retry = False
                request = asked_again(self._first, self._messages_since_prompt(), problems)
                # The answer that did not fit leaves the conversation. Its chunks and its cost stay.
                self._accumulator.again()
                self._begin(request)
                return Notice(f"the answer did not fit ({problems[0]}); asking once more")
        self.step = Done()
        return None

    def _begin_next(self) -> None:
        request = _free_choice(self._first) if self._round > 1 else self._first
        self._begin(replace(request, messages=(*self._first.messages, *self._messages_since_prompt())))

    def _messages_since_prompt(self) -> tuple[Message, ...]:
        """Return the turn after the prompt, as the next request takes it."""
        return resumable(self._accumulator.messages[1:])

    # The end

    @property
    def file_ids(self) -> tuple[str, ...]:
        """Return the ids of the files that the answers of the turn made."""
        return file_ids(block for message in self._accumulator.messages[1:] for block in message.content)

    @property
    def usage(self) -> Usage:
        """Return the usage of all answers of the turn so far."""
        return self._accumulator.usage

    def respond(self, status: Status, **fields: Any) -> Response:
        """Return the Response of everything that arrived, at any time.

        Args:
            status: how the turn ended.
            fields: the fields of the Response that only the session knows.
        """
        for _ in self.abandon_calls():
            pass
        return self._accumulator.respond(status, parsed=self.parsed, **fields)

    def settle(self, failure: BaseException | None, **fields: Any) -> Response:
        """Return the Response of the turn that ended, and give it to the error that ended it, if there was one.

        Args:
            failure: the error that ended the turn, or None.
            fields: as for :meth:`respond`.
        """
        response = self.respond(self.status_after(failure), **fields)
        match failure:
            case StreamError():
                failure.partial = response
            case AnswerError():
                failure.response = response
        return response

    def status_after(self, failure: BaseException | None) -> Status:
        """Return the status of the turn that ended with this failure, or with none."""
        match failure:
            case None:
                return "complete"
            case StreamError():
                return "incomplete"
            case AnswerError():
                # An answer that stopped for calls that nobody may run any more is not complete.
                last = self._accumulator.last
                return "incomplete" if last is not None and last.calls else "complete"
        return "interrupted" if is_stop(failure) else "error"


def _cache_notice(event: Mapping[str, Any]) -> Notice:
    """Return the status line on the share of the prompt that was read from the cache."""
    message = event.get("message")
    usage = Usage.from_api(message.get("usage") if isinstance(message, Mapping) else None)
    share = round(100 * usage.cached_share)
    return Notice(f"{share} % of the prompt from the cache" if share else "", about="cache")


def _free_choice(first: Request) -> Request:
    """Return the request of a later round.

    A first request can force a call (``tool_choice: any``). The call was made, so later requests
    let the model choose; otherwise it could never end the turn with text.
    """
    choice = first.params.get("tool_choice") or {}
    if choice.get("type") not in ("any", "tool"):
        return first
    auto = {key: value for key, value in choice.items() if key == "disable_parallel_tool_use"}
    return replace(first, params={**first.params, "tool_choice": {"type": "auto", **auto}})


def refused(response: Response) -> RefusedError:
    """Return the error for an answer in which the model declined."""
    details = response.stop_details or {}
    reason = details.get("explanation") or details.get("category")
    return RefusedError(
        f"the model declined to answer{f': {reason}' if reason else ''}",
        "Ask in another way. The Response holds the text of the model, with the status 'refused'.",
        response=response,
    )


#: The reasons with which a complete answer may be empty.
_ENDS_EMPTY = ("stop_sequence", "pause_turn", "compaction")


def _refuse_empty(last: ResponseChunk | None, number: int) -> None:
    """Raise AnswerError if the model ended its answer without any content."""
    if last is None or status_of(last.stop_reason) != "complete" or last.stop_reason in _ENDS_EMPTY:
        return  # the reason explains an empty answer
    for block in last.blocks:
        if isinstance(block, ToolUseBlock | OpaqueBlock) and block.type != "redacted_thinking":
            return
        if isinstance(block, TextBlock) and block.text.strip():
            return
    where = " after the results of its tools" if number > 1 else ""
    raise AnswerError(
        f"the model ended its answer{where} with neither text nor a tool call",
        "Run the cell again, or say in the prompt what the answer should contain.",
    )


def _still_calling(max_rounds: int, calls: Sequence[ToolUseBlock]) -> AnswerError:
    return AnswerError(
        f"after {counted(max_rounds, 'round')} the model still calls {calls[0].name}, "
        "though the last request allows no tool",
        "Raise --max-rounds, or ask for less. The Response has everything up to here.",
    )
