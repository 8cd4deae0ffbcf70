"""Telemetry: an OpenTelemetry span for each turn, and one for each tool it runs.

Nothing is set up here but Langfuse, and that only at its own environment variables. Without a
tracer provider no library is imported and nothing is recorded. The SDK makes the spans of the
requests (scope ``com.anthropic.sdk.python``); they become children of the turn.

Names are those of the GenAI conventions, in development as of 1.41
(https://github.com/open-telemetry/semantic-conventions-genai, ``gen-ai-agent-spans.md``). Prompts
and answers go along only with the SDK's own switch, ``ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content``.

The tokens of a turn are in ``gen_ai.aggregated_usage.*``: under ``gen_ai.usage.*`` everything that
adds up the spans of a trace would count them twice (https://github.com/langfuse/langfuse/issues/14754,
https://github.com/open-telemetry/semantic-conventions-genai/issues/19).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from nbchat.core.errors import redact
from nbchat.core.messages import Block, Message, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.models import telemetry_name

__all__ = ["Tool", "Turn", "start", "tool", "turn"]

log = logging.getLogger("nbchat.telemetry")

_SWITCH = "ANTHROPIC_OPEN_TELEMETRY"
#: The SDK's own default of ``…_TRACES_MAX_CONTENT_BYTES``.
_MOST_CONTENT = 750_000
#: How long the first turn waits for Langfuse, in seconds: its import takes one or two.
_PATIENCE = 15.0


class Turn:
    """The span of a turn; without a tracer provider it does nothing."""

    def __init__(self, span: Any = None, request: Request | None = None) -> None:
        self._span, self._request = span, request
        self._whole = False

    def settle(self, response: Response) -> None:
        """Take the end of the turn: what came of it."""
        if self._span is None:
            return
        try:
            self._span.set_attributes(_known(_ended(response)))
            if _records_content():
                self._put_content(response)
            self._whole = response.status == "complete"
        except Exception:  # what is only looked at must not cost an answer
            log.debug("a span could not be filled", exc_info=True)

    def fail(self, error: BaseException) -> None:
        """Take the error the turn ended with."""
        if self._span is not None and not isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            _fail(self._span, error)

    def _put_content(self, response: Response) -> None:
        asked, *answers = response.messages or (Message.of("user", response.prompt),)
        content = {
            "gen_ai.input.messages": [_message(asked)],
            "gen_ai.output.messages": [_message(message, response.stop_reason) for message in answers],
        }
        if self._request is not None and self._request.system:
            content["gen_ai.system_instructions"] = [{"type": "text", "content": _plain(self._request.system)}]
        _put(self._span, content)

    def end(self) -> None:
        """Take that no error came after the answer: a status that is OK cannot be changed any more."""
        if self._span is not None and self._whole:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.OK)


class Tool:
    """The span of one run of a tool; without a tracer provider it does nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def end(self, result: Iterable[Block] | str = "", *, is_error: bool = False) -> None:
        """Take what the tool answered."""
        if self._span is None:
            return
        try:
            from opentelemetry.trace import StatusCode

            text = result if isinstance(result, str) else "\n".join(_part(block).get("content", "") for block in result)
            if _records_content():
                _put(self._span, {"gen_ai.tool.call.result": text})
            if is_error:
                self._span.set_attribute("error.type", "tool_error")
                self._span.set_status(StatusCode.ERROR, redact(text)[:500] if _records_content() else "the tool failed")
            else:
                self._span.set_status(StatusCode.OK)
        except Exception:
            log.debug("a tool's span could not be filled", exc_info=True)


@contextmanager
def turn(
    request: Request, *, endpoint: str, chat: str = "", notebook: str = "", cell: str | None = None, user: str = ""
) -> Iterator[Turn]:
    """The span of a turn around the block; what the block sends and runs becomes a child of it.

    ``notebook`` is the session (without a name this kernel is one), ``chat`` within it the
    conversation, ``user`` who asks; without one it is JupyterHub's, and for Langfuse, which is the
    user's own, the login name. An error that leaves the block makes the span one of status ERROR;
    an interrupt does not.
    """
    tracer = _tracer()
    if tracer is None:
        yield Turn()
        return
    session, user = notebook or f"kernel-{_OWN}", user or _user()
    about = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": telemetry_name(endpoint),
        "gen_ai.agent.name": "nbchat",
        "gen_ai.conversation.id": f"{session}:{chat}",
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.stream": request.stream or None,
        "session.id": session,
        "user.id": user,
        "nbchat.endpoint": endpoint,
        "nbchat.cell.id": cell,
    }
    with _carrying(session, user), _span(tracer, "invoke_agent nbchat", about) as span:
        told = Turn(span, request)
        try:
            yield told
        except BaseException as error:
            told.fail(error)
            raise
        told.end()


@contextmanager
def tool(
    name: str, *, id: str = "", arguments: Mapping[str, Any] | None = None, kind: str = "function"
) -> Iterator[Tool]:
    """The span of one run of a tool around the block. ``arguments`` go along only with the content switch."""
    tracer = _tracer()
    if tracer is None:
        yield Tool()
        return
    about = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": id,
        "gen_ai.tool.type": kind,
    }
    with _span(tracer, f"execute_tool {name}", about) as span:
        try:
            if arguments is not None and _records_content():
                _put(span, {"gen_ai.tool.call.arguments": dict(arguments)})
            yield Tool(span)
        except Exception as error:
            _fail(span, error)
            raise


# Langfuse --------------------------------------------------------------------------------------

_starting: threading.Thread | None = None
_lock = threading.Lock()
#: For notebooks without a name.
_OWN = secrets.token_hex(4)


def start() -> None:
    """Let Langfuse begin in the background, where its keys are in the environment and it is installed.

    Its client registers itself as the tracer provider, or joins the one there is. The first turn
    waits for it, so that its trace is not missing.
    """
    global _starting
    if not all(os.environ.get(f"LANGFUSE_{key}_KEY") for key in ("PUBLIC", "SECRET")):
        return
    from importlib.util import find_spec

    if find_spec("langfuse") is None:
        return

    def begin() -> None:
        try:
            import langfuse

            langfuse.get_client()
        except Exception:
            log.warning("Langfuse could not be started; nothing is traced", exc_info=True)

    with _lock:
        if _starting is None:
            _starting = threading.Thread(target=begin, name="nbchat-langfuse", daemon=True)
            _starting.start()


def _user() -> str:
    if hub := os.environ.get("JUPYTERHUB_USER", ""):
        return hub
    if "langfuse" not in sys.modules:
        return ""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for this user
        return ""


def _carrying(session: str, user: str) -> Any:
    """Let Langfuse put session and user on the SDK's spans too: its sums go by them."""
    propagate = getattr(sys.modules.get("langfuse"), "propagate_attributes", None)
    known = {"session_id": _ascii(session), "user_id": _ascii(user)}
    known = {name: value for name, value in known.items() if value}
    return propagate(**known) if propagate is not None and known else nullcontext()


def _ascii(text: str) -> str:
    """As Langfuse takes it: at most 200 characters of ASCII."""
    return text.encode("ascii", "backslashreplace").decode()[-200:]


# OpenTelemetry ---------------------------------------------------------------------------------


def _tracer() -> Any:
    """A tracer, or None where there is no provider: then nothing is made at all."""
    if os.environ.get(_SWITCH, "").lower() == "false":
        return None
    if _starting is not None and _starting.is_alive():
        _starting.join(_PATIENCE)
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None and not os.environ.get("OTEL_PYTHON_TRACER_PROVIDER"):
        return None  # nobody can have set one
    try:
        if trace is None:
            from opentelemetry import trace
        provider = trace.get_tracer_provider()
        if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
            return None
        return provider.get_tracer("nbchat", getattr(sys.modules.get("nbchat"), "__version__", None))
    except Exception:
        log.debug("OpenTelemetry gives no tracer", exc_info=True)
        return None


@contextmanager
def _span(tracer: Any, name: str, about: Mapping[str, Any]) -> Iterator[Any]:
    from opentelemetry.trace import use_span

    span = tracer.start_span(name, attributes=_known(about))
    # Statuses are set here: OpenTelemetry would count an interrupt as an error, and write out the
    # message of an exception as it is, which may hold a prompt.
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield span


def _fail(span: Any, error: BaseException) -> None:
    from opentelemetry.trace import StatusCode

    try:
        span.set_attribute("error.type", getattr(error, "type", None) or type(error).__name__)
        span.set_status(StatusCode.ERROR, redact(str(getattr(error, "message", "") or error))[:500])
    except Exception:
        log.debug("an error could not be put on a span", exc_info=True)


def _known(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if value is not None and value != ""}


def _ended(response: Response) -> dict[str, Any]:
    usage = response.usage
    known = response.messages or usage.total_tokens
    return {
        "gen_ai.response.id": response.id,
        "gen_ai.response.model": response.model,
        "gen_ai.response.finish_reasons": [response.stop_reason] if response.stop_reason else None,
        "gen_ai.response.time_to_first_chunk": response.time_to_first_chunk,
        "gen_ai.aggregated_usage.input_tokens": usage.prompt_tokens if known else None,
        "gen_ai.aggregated_usage.output_tokens": usage.output_tokens if known else None,
        "gen_ai.aggregated_usage.cache_read.input_tokens": usage.cache_read_input_tokens or None,
        "gen_ai.aggregated_usage.cache_write.input_tokens": usage.cache_creation_input_tokens or None,
        "gen_ai.aggregated_usage.reasoning.output_tokens": usage.thinking_tokens or None,
        "nbchat.status": response.status,
        "nbchat.cost": response.cost,
        "nbchat.replayed": response.replayed or None,
        "nbchat.request.digest": response.digest,
    }


# Content ---------------------------------------------------------------------------------------


def _records_content() -> bool:
    return os.environ.get(f"{_SWITCH}_TRACES_CONTENT_MODE", "").lower() == "content"


def _put(span: Any, content: Mapping[str, Any]) -> None:
    """Set contents as JSON, without keys; one that is too long is left out, and said to be."""
    given = os.environ.get(f"{_SWITCH}_TRACES_MAX_CONTENT_BYTES", "").strip()
    room = int(given) if given.isdecimal() and int(given) else _MOST_CONTENT
    for name, value in content.items():
        text = redact(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        room -= len(text.encode("utf-8", "replace"))
        if room >= 0:
            span.set_attribute(name, text)
        else:
            span.set_attribute("anthropic.content.truncated", True)


def _message(message: Message, finish: str | None = None) -> dict[str, Any]:
    """A message in the shape of the conventions' JSON schemas."""
    ended = {"finish_reason": finish} if finish and message.role == "assistant" else {}
    return {"role": message.role, "parts": [_part(block) for block in message.content], **ended}


def _part(block: Block) -> dict[str, Any]:
    match block:
        case TextBlock():
            return {"type": "text", "content": block.text}
        case ThinkingBlock():
            return {"type": "reasoning", "content": block.thinking}
        case ToolUseBlock():
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": dict(block.input)}
        case _ if block.type == "tool_result":
            result = block.data.get("content")  # type: ignore[union-attr]
            return {"type": "tool_call_response", "id": block.data["tool_use_id"], "response": _plain(result)}  # type: ignore[union-attr]
    return {"type": f"anthropic_{block.type}"}  # data of images and documents stays here


def _plain(content: Any) -> str:
    """The text of a system prompt or a tool result; other blocks by their type."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part if isinstance(part, Mapping) else {} for part in content]
    return "\n".join(str(part.get("text") or f"[{part.get('type', '')}]") for part in parts)
