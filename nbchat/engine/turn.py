"""The rounds of a turn: a request, and one more for each time tools answered or the service paused.

The law:

1. A tool runs only after ``message_stop`` with ``stop_reason`` ``tool_use``, and only with
   arguments that are whole, strictly parsed JSON.
2. Every call gets one result, in the order of the calls, all in one message.
3. There are at most ``limit`` rounds. The last one sends ``tool_choice: none`` with the tools still
   in the request (without them the calls before it would not be valid), so the turn ends in text.
4. Whatever happens on the way, what is recorded of the turn can be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbchat import telemetry
from nbchat.core.chunks import Notice, ResponseChunk, StreamChunk, ToolResult
from nbchat.core.errors import AnswerError, NbchatError, ParseError
from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ToolUseBlock, content_of, tool_calls
from nbchat.core.parser import ChatStreamParser
from nbchat.core.request import Request
from nbchat.core.response import Accumulator
from nbchat.core.usage import Usage
from nbchat.engine.accounting import Account, Records
from nbchat.engine.endpoints import Endpoint
from nbchat.engine.structured import answer_as_text, asked_again, forces_answer, read_answer
from nbchat.notebook.run_python import show_traceback
from nbchat.tools.toolbox import INTERRUPTED, Outcome, Toolbox

__all__ = ["Rounds"]

#: How often a service may pause by itself and be asked to go on.
LONGEST_PAUSES = 10


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the rounds of one turn work with.

    ``feed`` tells the sinks of a chunk. ``account`` may refuse a further request. ``say`` tells the
    user what they did not decide. ``shell`` formats tracebacks, or is None.
    """

    records: Records
    endpoint: Endpoint
    accumulator: Accumulator
    account: Account
    feed: Callable[[StreamChunk], None]
    toolbox: Toolbox
    say: Callable[[str], None]
    limit: int = 8
    shell: Any = None

    def run(self, first: Request) -> None:
        """Send the request, and what follows from its answer, until a turn is whole.

        Raises:
            AnswerError: the last answer has neither text nor a call, or calls tools in the last round.
            TransportError, StreamError, BudgetError: of any of the requests.
        """
        request, number, pauses = first, 1, 0
        while True:
            if self.toolbox and number >= self.limit:
                request = replace(request, params={**request.params, "tool_choice": {"type": "none"}})
            self._round(request)
            last = self.accumulator.last
            reason = last.stop_reason if last is not None else None
            calls = tool_calls(last.blocks) if last is not None and reason == "tool_use" and self.toolbox else ()
            if calls:
                if number >= self.limit:
                    raise _still_calling(self.limit, calls)
                self._answer(calls)
                number += 1
            elif reason == "pause_turn" and pauses < LONGEST_PAUSES:
                # Its answer goes back as it is, and the service goes on:
                # https://platform.claude.com/docs/en/api/handling-stop-reasons#pause-turn
                pauses += 1
            else:
                _refuse_empty(last, number)
                return
            request = _with_choice(first, number)
            request = replace(request, messages=(*first.messages, *self._sofar()))

    def parse(self, first: Request, T: Any, *, retry: bool) -> Any:
        """The instance of ``T`` in the last answer; with ``retry`` it is asked for once more if it does not fit.

        Raises:
            ParseError, TruncatedError: there is none.
        """
        try:
            return read_answer(self.accumulator.last, T)
        except ParseError as error:
            if not retry:
                raise
            problems = error.problems
        request = asked_again(first, self._sofar(), problems)
        self.feed(Notice(f"the answer did not fit ({problems[0]}); asking once more"))
        self.accumulator.again()
        self._round(request)
        return read_answer(self.accumulator.last, T)

    def _round(self, request: Request) -> None:
        """One request and its answer: the loop of the pipeline."""
        parser = ChatStreamParser()
        replayed, status, error = False, "error", ""
        self.account.begin(request)
        try:
            with self.records.transport(self.endpoint).stream(request) as events:
                replayed = getattr(events, "replayed", False)
                if said := self.records.said(replayed=replayed):
                    self.feed(Notice(said))
                for event in answer_as_text(events) if forces_answer(request) else events:
                    if event.get("type") == "message_start":
                        self.feed(_from_cache(event))
                    chunk = parser.feed(event)
                    if chunk is not None:
                        self.accumulator.feed(chunk)
                        self.feed(chunk)
            parser.close()
            status = "complete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except NbchatError as wrong:
            error = getattr(wrong, "type", None) or type(wrong).__name__
            raise
        finally:
            answer = self.accumulator.last if parser.whole else self.accumulator.cut(parser.snapshot())
            self.account.end(answer, status, replayed=replayed, error=error)

    def _answer(self, calls: Sequence[ToolUseBlock]) -> None:
        """Run the calls in order. An interrupt answers the rest: without that nothing could be sent again."""
        answered = 0
        try:
            for call in calls:
                with telemetry.tool(call.name, id=call.id, arguments=call.input) as span:
                    outcome = self.toolbox.run(call, self.say)
                    span.end(outcome.text, is_error=outcome.is_error)
                if outcome.error is not None:
                    show_traceback(outcome.error, self.shell)
                self._tell(call, outcome)
                answered += 1
        except KeyboardInterrupt:
            for call in calls[answered:]:
                self._tell(call, INTERRUPTED)
            raise
        finally:
            self.accumulator.answer_tools()

    def _tell(self, call: ToolUseBlock, outcome: Outcome) -> None:
        result = ToolResult(call.id, content_of(outcome.content), outcome.is_error)
        self.accumulator.feed(result)
        self.feed(result)

    def _sofar(self) -> tuple[Message, ...]:
        """What came after the prompt, as it goes back: the API takes no blank text, which models do send."""
        return tuple(
            replace(message, content=tuple(block for block in message.content if not _blank(block)))
            for message in self.accumulator.messages[1:]
        )


def _from_cache(event: Mapping[str, Any]) -> Notice:
    """The line on the share of the prompt that came from the cache, as the beginning of an answer tells it."""
    message = event.get("message")
    usage = Usage.from_api(message.get("usage") if isinstance(message, Mapping) else None)
    share = round(100 * usage.cached_share)
    return Notice(f"{share} % of the prompt from the cache" if share else "", about="cache")


def _blank(block: object) -> bool:
    return isinstance(block, TextBlock) and not block.text.strip()


def _with_choice(first: Request, number: int) -> Request:
    """The request of a later round: a tool that had to be called was called, so the model may end."""
    choice = first.params.get("tool_choice") or {}
    if number == 1 or choice.get("type") not in ("any", "tool"):
        return first
    auto = {key: value for key, value in choice.items() if key == "disable_parallel_tool_use"}
    return replace(first, params={**first.params, "tool_choice": {"type": "auto", **auto}})


def _refuse_empty(last: ResponseChunk | None, number: int) -> None:
    """Raise AnswerError for an answer that ended by itself with nothing in it."""
    if last is None or last.stop_reason not in ("end_turn", "tool_use"):
        return  # at a limit, at a stop sequence, declined: it says so itself
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


def _still_calling(limit: int, calls: Sequence[ToolUseBlock]) -> AnswerError:
    return AnswerError(
        f"after {limit} rounds the model still calls {calls[0].name}, though the last request allows no tool",
        "Raise --max-rounds, or ask for less. What was done so far is in the Response.",
    )
