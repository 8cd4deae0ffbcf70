"""Telemetry: an OpenTelemetry span for each turn, and one for each tool that the turn runs.

The user sets up the tracer provider. This module sets up only Langfuse, and only if Langfuse's own
environment variables are set. Without a tracer provider, no library is imported and nothing is recorded.
The SDK makes the spans of the requests (scope ``com.anthropic.sdk.python``), which become children of the
span of the turn.

The names are those of the GenAI conventions, in development as of 1.41
(https://github.com/open-telemetry/semantic-conventions-genai, ``gen-ai-agent-spans.md``). Prompts and answers
are recorded only if the SDK's own switch is set: ``ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content``.

The tokens of a turn are in ``gen_ai.aggregated_usage.*``. Under ``gen_ai.usage.*``, each tool that adds up
the spans of a trace would count them twice (https://github.com/langfuse/langfuse/issues/14754,
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
from nbchat.core.fields import storable
from nbchat.core.messages import Block, Message, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.usage import Usage
from nbchat.models import telemetry_name

__all__ = ["ToolSpan", "TurnSpan", "start", "tool", "turn"]

log = logging.getLogger("nbchat.telemetry")

_SWITCH = "ANTHROPIC_OPEN_TELEMETRY"
#: The limit of all contents of one span. It is the SDK's own default of ``…_TRACES_MAX_CONTENT_BYTES``.
_MAX_CONTENT_BYTES = 750_000
#: The limit of an error message on a span.
_MAX_MESSAGE_CHARACTERS = 500
#: How long the first turn waits for Langfuse, whose import takes one or two seconds.
_PATIENCE_S = 15.0


class TurnSpan:
    """The span of a turn. It does nothing if there is no tracer provider."""

    def __init__(self, span: Any = None, request: Request | None = None) -> None:
        self._span, self._request = span, request
        self._is_complete = False

    def settle(self, response: Response) -> None:
        """Put the result of the turn on the span."""
        if self._span is None:
            return
        try:
            self._span.set_attributes(_without_empty(_attributes_of(response)))
            if _records_content():
                self._put_content(response)
            self._is_complete = response.status == "complete"
        except Exception:  # a problem of telemetry must not cost the user an answer
            log.debug("the attributes of a span could not be set", exc_info=True)

    def settle_rows(self, rows: int, requests: int, usage: Usage) -> None:
        """Put the result of a run over rows on its span."""
        if self._span is None:
            return
        self._span.set_attributes(
            {
                "nbchat.rows": rows,
                "nbchat.requests": requests,
                "gen_ai.aggregated_usage.input_tokens": usage.prompt_tokens,
                "gen_ai.aggregated_usage.output_tokens": usage.output_tokens,
            }
        )

    def fail(self, error: BaseException) -> None:
        """Put the error of the turn on the span. An interrupt is not an error."""
        if self._span is not None and not isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            _fail(self._span, error)

    def _put_content(self, response: Response) -> None:
        prompt, *answers = response.messages or (Message.of("user", response.prompt),)
        content = {
            "gen_ai.input.messages": [_message(prompt)],
            "gen_ai.output.messages": [_message(message, response.stop_reason) for message in answers],
        }
        if self._request is not None and self._request.system:
            content["gen_ai.system_instructions"] = [{"type": "text", "content": _plain(self._request.system)}]
        _put(self._span, content)

    def end(self) -> None:
        """Set the status OK. Call this last: a status OK cannot become an error."""
        if self._span is not None and self._is_complete:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.OK)


class ToolSpan:
    """The span of one run of a tool. It does nothing if there is no tracer provider."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def end(self, result: Iterable[Block] | str = "", *, is_error: bool = False) -> None:
        """Put the result of the tool on the span."""
        if self._span is None:
            return
        try:
            from opentelemetry.trace import StatusCode

            text = result if isinstance(result, str) else "\n".join(_part(block).get("content", "") for block in result)
            if _records_content():
                _put(self._span, {"gen_ai.tool.call.result": text})
            if is_error:
                self._span.set_attribute("error.type", "tool_error")
                self._span.set_status(
                    StatusCode.ERROR,
                    redact(text)[:_MAX_MESSAGE_CHARACTERS] if _records_content() else "the tool failed",
                )
            else:
                self._span.set_status(StatusCode.OK)
        except Exception:
            log.debug("the attributes of a tool's span could not be set", exc_info=True)


@contextmanager
def turn(
    request: Request, *, endpoint: str, chat: str = "", notebook: str = "", cell: str | None = None, user: str = ""
) -> Iterator[TurnSpan]:
    """Put the span of a turn around the block. Requests and tools in the block become its children.

    An error that leaves the block gives the span the status ERROR; an interrupt does not.

    Args:
        request: the first request of the turn.
        endpoint: the name of the endpoint.
        chat: the name of the conversation in the notebook.
        notebook: the name of the session. Without one, the session is this kernel.
        cell: the id of the cell.
        user: the name of the user. Without one, it is JupyterHub's. For Langfuse, which only the user
            reads, it is else the login name.
    """
    tracer = _tracer()
    if tracer is None:
        yield TurnSpan()
        return
    session, user = notebook or f"kernel-{_KERNEL}", user or _user()
    attributes = {
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
    with _propagating(session, user), _span(tracer, "invoke_agent nbchat", attributes) as span:
        turn_span = TurnSpan(span, request)
        try:
            yield turn_span
        except BaseException as error:
            turn_span.fail(error)
            raise
        turn_span.end()


@contextmanager
def tool(
    name: str, *, id: str = "", arguments: Mapping[str, Any] | None = None, kind: str = "function"
) -> Iterator[ToolSpan]:
    """Put the span of one run of a tool around the block.

    ``arguments`` are recorded only if the SDK's switch for contents is on.
    """
    tracer = _tracer()
    if tracer is None:
        yield ToolSpan()
        return
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": id,
        "gen_ai.tool.type": kind,
    }
    with _span(tracer, f"execute_tool {name}", attributes) as span:
        try:
            if arguments is not None and _records_content():
                _put(span, {"gen_ai.tool.call.arguments": dict(arguments)})
            yield ToolSpan(span)
        except Exception as error:
            _fail(span, error)
            raise


# Langfuse --------------------------------------------------------------------------------------

_starting: threading.Thread | None = None
_lock = threading.Lock()
#: The session of notebooks without a name.
_KERNEL = secrets.token_hex(4)


def start() -> None:
    """Start Langfuse in a thread, if it is installed and its keys are in the environment.

    Its client becomes the tracer provider, or adds itself to the existing one. The first turn waits for
    the thread, or its trace would be missing.
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


def _propagating(session: str, user: str) -> Any:
    """Let Langfuse put session and user on the SDK's spans, too: it sums up tokens by them."""
    propagate = getattr(sys.modules.get("langfuse"), "propagate_attributes", None)
    names = _without_empty({"session_id": _ascii(session), "user_id": _ascii(user)})
    return propagate(**names) if propagate is not None and names else nullcontext()


def _ascii(text: str) -> str:
    """Return the end of a text as Langfuse accepts it: at most 200 characters of ASCII."""
    return text.encode("ascii", "backslashreplace").decode()[-200:]


# OpenTelemetry ---------------------------------------------------------------------------------


def _tracer() -> Any:
    """Return a tracer, or None if there is no tracer provider. Then no span is created at all."""
    if os.environ.get(_SWITCH, "").lower() == "false":
        return None
    if _starting is not None and _starting.is_alive():
        _starting.join(_PATIENCE_S)
    if "opentelemetry.trace" not in sys.modules and not os.environ.get("OTEL_PYTHON_TRACER_PROVIDER"):
        return None  # nobody can have set a provider without importing the module
    try:
        from opentelemetry import trace

        provider = trace.get_tracer_provider()
        if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
            return None
        return provider.get_tracer("nbchat", getattr(sys.modules.get("nbchat"), "__version__", None))
    except Exception:
        log.debug("OpenTelemetry has no tracer", exc_info=True)
        return None


@contextmanager
def _span(tracer: Any, name: str, attributes: Mapping[str, Any]) -> Iterator[Any]:
    from opentelemetry.trace import use_span

    span = tracer.start_span(name, attributes=_without_empty(attributes))
    # This module sets the status. OpenTelemetry would count an interrupt as an error, and would record the
    # whole message of an exception, which may contain a prompt.
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield span


def _fail(span: Any, error: BaseException) -> None:
    from opentelemetry.trace import StatusCode

    try:
        span.set_attribute("error.type", getattr(error, "type", None) or type(error).__name__)
        span.set_status(StatusCode.ERROR, redact(str(getattr(error, "message", "") or error))[:_MAX_MESSAGE_CHARACTERS])
    except Exception:
        log.debug("an error could not be put on a span", exc_info=True)


def _without_empty(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def _attributes_of(response: Response) -> dict[str, Any]:
    usage = response.usage
    has_usage = usage.total_tokens  # without any, no count arrived, and a 0 would be made up
    return {
        "gen_ai.response.id": response.id,
        "gen_ai.response.model": response.model,
        "gen_ai.response.finish_reasons": [response.stop_reason] if response.stop_reason else None,
        "gen_ai.response.time_to_first_chunk": response.time_to_first_chunk,
        "gen_ai.aggregated_usage.input_tokens": usage.prompt_tokens if has_usage else None,
        "gen_ai.aggregated_usage.output_tokens": usage.output_tokens if has_usage else None,
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
    """Put contents on a span as JSON, without keys. Leave out a content that is too long, and mark the span."""
    limit = os.environ.get(f"{_SWITCH}_TRACES_MAX_CONTENT_BYTES", "").strip()
    rest_bytes = int(limit) if limit.isdecimal() and int(limit) else _MAX_CONTENT_BYTES
    for name, value in content.items():
        text = redact(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        text = storable(text)
        rest_bytes -= len(text.encode())
        if rest_bytes >= 0:
            span.set_attribute(name, text)
        else:
            span.set_attribute("anthropic.content.truncated", True)


def _message(message: Message, finish: str | None = None) -> dict[str, Any]:
    """Return a message as the JSON schemas of the conventions describe it."""
    reason = {"finish_reason": finish} if finish and message.role == "assistant" else {}
    return {"role": message.role, "parts": [_part(block) for block in message.content], **reason}


def _part(block: Block) -> dict[str, Any]:
    match block:
        case TextBlock():
            return {"type": "text", "content": block.text}
        case ThinkingBlock():
            return {"type": "reasoning", "content": block.thinking}
        case ToolUseBlock():
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": dict(block.input)}
        case _ if block.type == "tool_result":
            result = block.data.get("content")
            return {"type": "tool_call_response", "id": block.data["tool_use_id"], "response": _plain(result)}
    return {"type": f"anthropic_{block.type}"}  # the data of images and documents is not recorded


def _plain(content: Any) -> str:
    """Return the text of a system prompt or a tool result, with the types of its other blocks in brackets."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part if isinstance(part, Mapping) else {} for part in content]
    return "\n".join(str(part.get("text") or f"[{part.get('type', '')}]") for part in parts)
