"""Tests of the spans of turns and tools around the spans of the SDK, of their content, and of Langfuse."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from nbchat import ScriptedTransport, Session
from nbchat.core.chunks import StreamChunk
from nbchat.core.errors import AnswerError, BadRequestError, StreamError
from nbchat.core.response import Response
from nbchat.rows.run import ask_each
from nbchat.transports.claude import ClaudeTransport
from tests.support import server as api

ROOT = Path(__file__).parents[2]
SDK = "com.anthropic.sdk.python"
CONTENT = "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE"

modes = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Set a tracer provider for one test, and return the exporter of its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # OpenTelemetry allows this only once
    return exporter


def asked(server: api.Server, prompt: str = "Hi", **given: Any) -> Response:
    return Session(ClaudeTransport("test", base_url=server.url, max_retries=0), notebook="n.ipynb").ask(prompt, **given)


def answering(text: str = "Hello!") -> Any:
    """Return a handler that answers with a stream or with one message, as the request asks."""

    def handler(wire: api.Wire, request: api.Received) -> None:
        if request.body.get("stream"):
            api.streaming(api.text_events([text]))(wire, request)
        else:
            wire.json("200 OK", api.message([{"type": "text", "text": text}]))

    return handler


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def everything(exporter: InMemorySpanExporter) -> str:
    return " ".join(span.to_json() for span in exporter.get_finished_spans())


@modes
def test_a_turn_is_a_span_around_the_span_of_the_sdk(exporter: InMemorySpanExporter, stream: bool):
    """The names are those of the GenAI conventions. The tokens are counted once, on the SDK's span."""
    with api.serving(answering()) as server:
        response = asked(server, stream=stream, chat="sums", max_tokens=77, model="a-model")
    found = spans(exporter)
    turn, call = found["invoke_agent nbchat"], found["anthropic.messages.create"]
    assert len(found) == 2
    assert turn.parent is None
    assert call.parent is not None
    assert call.parent.span_id == turn.context.span_id
    assert (turn.kind, turn.status.status_code) == (SpanKind.INTERNAL, StatusCode.OK)
    known = dict(turn.attributes or {})
    assert known.pop("gen_ai.response.time_to_first_chunk") >= 0
    assert known == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "test",
        "gen_ai.agent.name": "nbchat",
        "gen_ai.conversation.id": "n.ipynb:sums",
        "gen_ai.request.model": "a-model",
        "gen_ai.request.max_tokens": 77,
        **({"gen_ai.request.stream": True} if stream else {}),
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "test-model",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.aggregated_usage.input_tokens": 10,
        "gen_ai.aggregated_usage.output_tokens": response.usage.output_tokens,
        "session.id": "n.ipynb",
        "nbchat.endpoint": "test",
        "nbchat.status": "complete",
        "nbchat.request.digest": response.digest,
    }
    assert (call.attributes or {})["gen_ai.usage.output_tokens"] == response.usage.output_tokens


@modes
def test_prompts_and_answers_are_recorded_only_with_the_sdks_switch(
    exporter: InMemorySpanExporter, stream: bool, monkeypatch: pytest.MonkeyPatch
):
    """Without the SDK's switch no span contains prompts or answers. With the switch the turn's span has both."""
    prompt, key = "canary-question", "sk-ant-api03-" + "x" * 40
    with api.serving(answering(f"canary-answer {key}")) as server:
        asked(server, prompt, stream=stream, system="canary-system")
        assert "canary" not in everything(exporter)
        exporter.clear()
        monkeypatch.setenv(CONTENT, "content")
        asked(server, f"{prompt} {key}", stream=stream, system="canary-system")
    turn = dict(spans(exporter)["invoke_agent nbchat"].attributes or {})
    assert json.loads(turn["gen_ai.input.messages"])[0]["parts"][0]["content"].startswith(prompt)
    (said,) = json.loads(turn["gen_ai.output.messages"])
    assert said["role"] == "assistant"
    assert said["finish_reason"] == "end_turn"
    assert said["parts"][0]["content"].startswith("canary-answer")
    assert json.loads(turn["gen_ai.system_instructions"]) == [{"type": "text", "content": "canary-system"}]
    assert key not in json.dumps(turn, default=str)


def test_content_that_is_too_long_is_left_out_and_marked(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
):
    """The limit of the SDK, in bytes, applies to the turn's span too."""
    monkeypatch.setenv(CONTENT, "content")
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY_TRACES_MAX_CONTENT_BYTES", "500")
    Session(ScriptedTransport("é" * 400)).ask("Hi")
    turn = dict(spans(exporter)["invoke_agent nbchat"].attributes or {})
    assert "gen_ai.input.messages" in turn
    assert "gen_ai.output.messages" not in turn
    assert turn["anthropic.content.truncated"] is True


@modes
def test_an_error_has_status_error_on_both_spans(exporter: InMemorySpanExporter, stream: bool):
    """A refused request is an error of the turn, with its type and its message. The message contains no key."""
    wrong = {"type": "error", "error": {"type": "invalid_request_error", "message": "no sk-ant-api03-canary00000"}}
    with api.serving(lambda wire, _: wire.json("400 Bad Request", wrong)) as server, pytest.raises(BadRequestError):
        asked(server, stream=stream)
    found = spans(exporter)
    turn = found["invoke_agent nbchat"]
    assert found["anthropic.messages.create"].status.status_code is StatusCode.ERROR
    assert turn.status.status_code is StatusCode.ERROR
    assert (turn.attributes or {})["error.type"] == "invalid_request_error"
    assert (turn.attributes or {})["nbchat.status"] == "error"
    assert "canary" not in turn.to_json()
    assert turn.events == ()


def test_an_answer_that_broke_off_is_an_error_with_the_part_that_arrived(exporter: InMemorySpanExporter):
    """A stream without ``message_stop`` is an error, and its span has the part that arrived."""
    with (
        api.serving(api.streaming(list(api.text_events(["some ", "words"]))[:4])) as server,
        pytest.raises(StreamError),
    ):
        asked(server)
    turn = spans(exporter)["invoke_agent nbchat"]
    assert turn.status.status_code is StatusCode.ERROR
    assert (turn.attributes or {})["nbchat.status"] == "incomplete"
    assert (turn.attributes or {})["gen_ai.aggregated_usage.input_tokens"] == 10


def test_a_complete_answer_that_cannot_be_used_is_an_error(exporter: InMemorySpanExporter):
    """A complete answer that cannot be used is an error of the span, because the cell fails."""
    with pytest.raises(AnswerError):
        Session(ScriptedTransport("   ")).ask("Hi")
    turn = spans(exporter)["invoke_agent nbchat"]
    assert turn.status.status_code is StatusCode.ERROR
    assert (turn.attributes or {})["error.type"] == "AnswerError"


def test_an_interrupt_is_not_an_error(exporter: InMemorySpanExporter):
    """An interrupt does not set the status ERROR, because the user stopped the answer on purpose."""

    class Stop:
        def begin(self, request) -> None:
            pass

        def feed(self, chunk: StreamChunk) -> None:
            raise KeyboardInterrupt

        def settle(self, response: Response) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        Session(ScriptedTransport("Hi")).ask("Hi", sinks=[Stop()])
    turn = spans(exporter)["invoke_agent nbchat"]
    assert turn.status.status_code is StatusCode.UNSET
    assert (turn.attributes or {})["nbchat.status"] == "interrupted"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail(why: str) -> None:
    """Fail."""
    raise ValueError(why)


@pytest.mark.parametrize("content", [False, True], ids=["metadata only", "with content"])
def test_tools_have_spans_inside_the_turn(
    exporter: InMemorySpanExporter, content: bool, monkeypatch: pytest.MonkeyPatch
):
    """Each run of a tool has a span with the id of its call. A failed tool is an error, and the turn continues."""
    if content:
        monkeypatch.setenv(CONTENT, "content")
    calls = [{"tool": "add", "input": {"a": 20, "b": 22}}, {"tool": "fail", "input": {"why": "canary"}}]
    Session(ScriptedTransport(calls, "Done.")).ask("Go.", tools=[add, fail])
    found = spans(exporter)
    turn, good, bad = (found[name] for name in ("invoke_agent nbchat", "execute_tool add", "execute_tool fail"))
    for span in (good, bad):
        assert span.parent is not None
        assert span.parent.span_id == turn.context.span_id
        assert (span.attributes or {})["gen_ai.operation.name"] == "execute_tool"
        assert (span.attributes or {})["gen_ai.tool.type"] == "function"
        assert (span.attributes or {})["gen_ai.tool.call.id"]
    assert turn.status.status_code is good.status.status_code is StatusCode.OK
    assert bad.status.status_code is StatusCode.ERROR
    assert (bad.attributes or {})["error.type"] == "tool_error"
    if content:
        assert json.loads((good.attributes or {})["gen_ai.tool.call.arguments"]) == {"a": 20, "b": 22}
        assert (good.attributes or {})["gen_ai.tool.call.result"] == "42"
        said = json.loads((turn.attributes or {})["gen_ai.output.messages"])
        assert [part["type"] for message in said for part in message["parts"]] == [
            "tool_call", "tool_call", "tool_call_response", "tool_call_response", "text",
        ]  # fmt: skip
    else:
        assert "canary" not in everything(exporter)
        assert "gen_ai.tool.call.arguments" not in (good.attributes or {})


def test_a_replayed_turn_is_marked_and_has_no_span_of_a_request(exporter: InMemorySpanExporter, tmp_path: Path):
    """A replayed turn has no span of a request, because nothing was sent."""
    for _ in range(2):
        exporter.clear()
        session = Session(ScriptedTransport("One.", name="anthropic", model="claude-sonnet-4-5"))
        session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
        session.ask("Hi")
    (turn,) = exporter.get_finished_spans()
    assert (turn.attributes or {})["nbchat.replayed"] is True
    assert (turn.attributes or {})["nbchat.cost"] == 0.0
    assert not [name for name in turn.attributes or {} if name.startswith("gen_ai.usage.")]


def test_trace_headers_are_sent_to_the_api_only_if_requested(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
):
    """Trace ids and the user's baggage are not sent by default, because they are private."""
    with api.serving(answering()) as server:
        asked(server)
        monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY_PROPAGATION", "true")
        asked(server)
    silent, asked_for = (request.headers for request in server.requests)
    assert not {"traceparent", "baggage"} & set(silent)
    assert "traceparent" in asked_for


def test_the_user_and_the_session_if_they_are_known(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch):
    """NBCHAT_USER overrides JupyterHub's user. A login name is not recorded without Langfuse."""
    monkeypatch.setenv("LOGNAME", "canary")
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)
    Session(ScriptedTransport("1")).ask("Hi")
    monkeypatch.setenv("JUPYTERHUB_USER", "hub-user")
    Session(ScriptedTransport("2")).ask("Hi")
    monkeypatch.setenv("NBCHAT_USER", "ada")
    Session(ScriptedTransport("3")).ask("Hi")
    found = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    assert [about.get("user.id") for about in found] == [None, "hub-user", "ada"]
    (session,) = {about["session.id"] for about in found}
    assert session.startswith("kernel-")
    assert found[0]["gen_ai.conversation.id"] == f"{session}:main"


def test_the_sdks_switch_turns_everything_off(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch):
    """ANTHROPIC_OPEN_TELEMETRY=false turns off the spans of nbchat too."""
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    with api.serving(answering()) as server:
        asked(server)
    assert exporter.get_finished_spans() == ()


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_without_a_provider_no_library_is_loaded():
    """A turn with tools loads neither OpenTelemetry nor Langfuse."""
    said = _python(
        "import sys\n"
        "from nbchat import ScriptedTransport, Session\n"
        "def add(a: int, b: int) -> int:\n    return a + b\n"
        "session = Session(ScriptedTransport({'tool': 'add', 'input': {'a': 1, 'b': 2}}, '3'))\n"
        "session.ask('Hi', tools=[add])\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'langfuse')])"
    )
    assert said.strip() == "[]"


# Langfuse --------------------------------------------------------------------------------------


class Sink(BaseHTTPRequestHandler):
    """An OTLP server that receives spans as Langfuse's server does."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.taken.append((self.path, headers, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.taken = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _exported(sink: Any) -> list[dict[str, Any]]:
    """Return all received spans: name, status, and attributes as plain values."""
    found = []
    for path, headers, body in sink.taken:
        if path != "/api/public/otel/v1/traces":
            continue
        assert base64.b64decode(headers["authorization"].split()[1]) == b"pk-lf-test:sk-lf-test"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {
                        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
                        for pair in span.attributes
                    }
                    found.append(
                        {
                            "name": span.name,
                            "scope": scope.scope.name,
                            "id": span.span_id,
                            "parent": span.parent_span_id,
                            "trace": span.trace_id,
                            "status": span.status.code,
                            **values,
                        }
                    )
    return found


_LANGFUSE = """
import os, sys
from nbchat import Session
from nbchat.core.errors import NbchatError
from nbchat.transports.claude import ClaudeTransport
transport = ClaudeTransport("anthropic", base_url=sys.argv[1], api_key="k", max_retries=0)
session = Session(transport, notebook="sales/Übersicht.ipynb")
session.ask("canary-streamed", stream=True)
session.ask("canary-whole", stream=False)
try:
    session.ask("canary-wrong")
except NbchatError:
    pass
"""


@pytest.mark.parametrize("content", [False, True], ids=["metadata only", "with content"])
def test_langfuse_gets_traces_with_session_user_and_usage(sink: ThreadingHTTPServer, content: bool):
    """Langfuse needs only its variables. Streamed, unstreamed and failed turns arrive without a call of flush()."""
    wrong = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}

    def refuse(wire: api.Wire, _: api.Received) -> None:
        wire.json("400 Bad Request", wrong)

    variables = {
        "LANGFUSE_PUBLIC_KEY": "pk-lf-test",
        "LANGFUSE_SECRET_KEY": "sk-lf-test",
        "LANGFUSE_BASE_URL": f"http://127.0.0.1:{sink.server_port}",
        "LANGFUSE_HOST": f"http://127.0.0.1:{sink.server_port}",
        "JUPYTERHUB_USER": "",
        "LOGNAME": "ada",  # the login name, which a setting would override
        **({CONTENT: "content"} if content else {}),
    }
    with api.serving(answering("canary-answer"), answering("canary-answer"), refuse) as server:
        _python(f"import sys; sys.argv.append({server.url!r})\n{_LANGFUSE}", **variables)
        assert not [request for request in server.requests if {"traceparent", "baggage"} & set(request.headers)]
    found = _exported(sink)
    turns = [span for span in found if span["name"] == "invoke_agent nbchat"]
    calls = [span for span in found if span["name"] == "anthropic.messages.create"]
    assert len(turns) == len(calls) == 3
    assert len({span["trace"] for span in turns}) == 3
    assert {call["parent"] for call in calls} == {turn["id"] for turn in turns}
    for span in (*turns, *calls):
        assert span["session.id"] == "sales/\\xdcbersicht.ipynb"  # Langfuse accepts ASCII only
        assert span["user.id"] == "ada"
    whole = [call for call in calls if call["status"] != StatusCode.ERROR.value]
    assert len(whole) == 2
    for call in whole:
        assert call["gen_ai.usage.input_tokens"] == 10
        assert call["gen_ai.usage.output_tokens"] >= 1
        assert call["gen_ai.response.model"] == "test-model"
    # Langfuse shows the status ERROR as level ERROR.
    assert [turn["status"] for turn in turns].count(StatusCode.ERROR.value) == 1
    assert len([turn for turn in turns if turn.get("error.type") == "invalid_request_error"]) == 1
    kept = json.dumps(found, default=str)
    assert ("canary-streamed" in kept) == ("canary-whole" in kept) == ("canary-answer" in kept) == content


def test_a_langfuse_that_cannot_be_reached_does_not_cost_an_answer():
    """The answer arrives and the process ends, even if the server of Langfuse is down."""
    said = _python(
        "from nbchat import ScriptedTransport, Session\nprint(Session(ScriptedTransport('fine')).ask('Hi').text)",
        LANGFUSE_PUBLIC_KEY="pk-lf-test",
        LANGFUSE_SECRET_KEY="sk-lf-test",
        LANGFUSE_BASE_URL="http://127.0.0.1:9",
        LANGFUSE_HOST="http://127.0.0.1:9",
        LANGFUSE_TIMEOUT="1",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert said.startswith("fine")


@pytest.mark.parametrize("wanted", [False, True])
def test_a_run_over_rows_is_one_span_and_has_others_only_if_asked_for(exporter: InMemorySpanExporter, wanted: bool):
    """The tokens of all rows are on the span of the run."""
    with api.serving(answering()) as server:
        session = Session(ClaudeTransport("test", base_url=server.url, api_key="none", max_retries=0))
        session.config.row_spans = wanted
        job = ask_each(session, ["a", "b", "c"], "Say {{ row }}", session.options({}))
    found = exporter.get_finished_spans()
    (run,) = [span for span in found if span.name == "invoke_agent nbchat"]
    calls = [span for span in found if span.name == "anthropic.messages.create"]
    assert job.status == "complete"
    assert len(calls) == (3 if wanted else 0)
    assert len(found) == 1 + len(calls)
    assert all(call.parent is not None and call.parent.span_id == run.context.span_id for call in calls)
    known = run.attributes or {}
    assert (known["nbchat.rows"], known["nbchat.requests"]) == (3, 3)
    assert (known["gen_ai.aggregated_usage.input_tokens"], known["gen_ai.aggregated_usage.output_tokens"]) == (30, 15)
