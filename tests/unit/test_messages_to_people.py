"""Compare every error message with the file ``messages_to_people.md``, which shows all of them.

Reviewers read a changed message there as a diff. This command writes the file again::

    python -m tests.unit.test_messages_to_people
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.conversation import Turn as RecordedTurn
from nbchat.core.errors import NbchatError
from nbchat.core.files import AnswerFile
from nbchat.core.messages import Message
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.request import Request
from nbchat.core.template import fill
from nbchat.core.uploads import Upload
from nbchat.engine.draft import Draft
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.endpoints import Endpoints
from nbchat.engine.files import MadeFiles
from nbchat.engine.fitting import refuse_too_long
from nbchat.engine.server_tools import refuse_unserved
from nbchat.engine.uploads import refuse_unknown_files
from nbchat.notebook.line import parse
from nbchat.options import Options
from nbchat.rows.attach import attach
from nbchat.rows.batch_outcomes import failure_of
from nbchat.rows.batches import batch_options
from nbchat.rows.collecting import batch_door
from nbchat.rows.engines import Each, merge
from nbchat.rows.run import ask_each
from nbchat.rows.store import Store
from nbchat.store.prices import check_budget
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.claude.batches import read_results
from nbchat.transports.error_mapping import NothingCame, NotTheApi, explain

TABLE = Path(__file__).with_name("messages_to_people.md")
Case = Callable[[], Any]


def line(text: str) -> Case:
    """Parse a ``%%claude`` line."""
    return lambda: parse(text, has_body=True)


def setting(**environment: str) -> Case:
    """Read settings from environment variables."""
    return lambda: Nbchat(environment)


def ask(prompt: str = "Hi", answer: Any = "Hello", namespace: Any = None, **options: Any) -> Case:
    """Ask a scripted transport that returns ``answer``."""
    return lambda: Session(ScriptedTransport(answer)).ask(prompt, namespace=namespace, **options)


def endpoint(name: str | None = None, *, installed: bool = True, endpoints: Any = None, **options: Any) -> Case:
    """Find an endpoint on a machine without credentials."""

    def find() -> Any:
        config = Nbchat({})
        config.endpoints = endpoints or {}
        given = {"endpoint": name, **options} if name else options
        with mock.patch("nbchat.transports.local.installed", return_value=(installed, "")):
            return Endpoints(config).find(Options.of(given)).transport.client

    return find


def platform(name: str, *, installed: bool) -> Case:
    """Connect to a platform of the SDK, in an environment without settings for the platform."""

    def connect() -> Any:
        bare = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "CLOUD_ML", "GOOGLE"))}
        with (
            mock.patch.dict(os.environ, bare, clear=True),
            mock.patch("nbchat.transports.claude.client.is_installed", lambda module: installed or module is None),
        ):
            return ClaudeTransport(name).client

    return connect


def answered(status: int, type: str | None, said: str, started: bool = False, **headers: str) -> Case:
    """Explain an error that an endpoint returned."""

    def make() -> Any:
        import anthropic
        import httpx2

        body = {"type": "error", "error": {"type": type, "message": said}} if type else said
        known = {"request-id": "req_0", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = httpx2.Request("POST", "http://x/v1/messages")
        response = httpx2.Response(status, headers=known, request=request)
        raise explain(
            anthropic.APIStatusError(said, response=response, body=body), endpoint="anthropic", started=started
        )

    return make


def raised(name: str, *words: str, started: bool = False, cause: BaseException | None = None) -> Case:
    """Explain an error of the SDK or of httpx2."""

    def make() -> Any:
        import anthropic
        import httpx2

        house, _, kind = name.partition(".")
        request = httpx2.Request("POST", "http://x/")
        given = {"request": request} if house == "anthropic" else {}
        error = getattr({"anthropic": anthropic, "httpx2": httpx2}[house], kind)(*words, **given)
        error.__cause__ = cause
        raise explain(error, endpoint="anthropic", started=started, waited=120.0)

    return make


def broken(error: Exception, started: bool = False) -> Case:
    """Explain any other error."""

    def make() -> Any:
        raise explain(error, endpoint="mine", started=started, waited=120.0)

    return make


def stream(*events: dict[str, Any]) -> Case:
    """Parse a stream of these events."""

    def make() -> Any:
        parser = ChatStreamParser()
        for event in events:
            parser.feed(event)
        parser.close()

    return make


def window(turns: int, tokens: int = 9000, **given: Any) -> Case:
    """Check a request that is larger than the context window."""

    def make() -> Any:
        words = tuple(Message.of(role, "word " * 900) for role in ("user", "assistant"))
        history = tuple(RecordedTurn(None, words) for _ in range(turns))
        draft = Draft(Message.of("user", "word " * 4000), history=history, system="Be brief. " * 50)
        return refuse_too_long(draft, tokens, 8192, answer=1024, **given)

    return make


def upload(endpoint: str, *, earlier: bool = False) -> Case:
    """Refer to an uploaded file in a request to an endpoint."""

    def make() -> Any:
        file = Upload("sha256:ab", "report.pdf", "application/pdf", 100, content=None if earlier else b"%PDF-")
        block = {"type": "document", "source": {"type": "file", "file_id": file.address}}
        request = Request("m", (Message.of("user", [block]),), 100)
        transport = mock.Mock() if earlier else ScriptedTransport()
        refuse_unknown_files(request, {file.address: file}, Endpoint(endpoint, "m", lambda: transport))

    return make


def made_file(call: Callable[[AnswerFile], Any]) -> Case:
    """Do something with a file that an answer made, at an endpoint without a Files API."""
    source = MadeFiles(
        Endpoint("mine", "m", ScriptedTransport), mock.Mock(file_metadata=lambda id, at: at.file_metadata(id))
    )
    return lambda: call(AnswerFile("file_1", endpoint="mine", source=source))


BEGUN = next(iter(events_of({"id": "m", "content": [], "usage": {}})))
REFUSAL = ["", {"stop_reason": "refusal", "stop_details": {"category": "bio", "explanation": "It is about toxins."}}]
CALLS = {"tool": "f", "input": {}}


def rows() -> Session:
    """Return a session for runs over rows."""
    return Session(ScriptedTransport())


def failed_row(outcome: dict[str, Any]) -> Any:
    """Raise the error of a row of a batch."""
    raise failure_of(outcome)[0]


REFUSED_ROW = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens is too large"}}

CASES: dict[str, dict[str, Case]] = {
    "The options of a cell": {
        "an option with a typo": line("--modle x"),
        "an unknown option": line("--zzz"),
        "an unknown short option": line("-x"),
        "an option without its value": line("-m"),
        "an option where a value belongs": line("-m --quiet"),
        "a word instead of a number": line("--max-tokens many"),
        "zero tokens": line("--max-tokens 0"),
        "a budget that is not a number": line("--budget free"),
        "a choice with a typo": line("--effort hihg"),
        "an unknown choice": line("--effort 11"),
        "a value for a switch": line("--quiet=yes"),
        "an option twice with different values": line("-m one -m two"),
        "an option after the prompt": line("Tell me -m claude"),
        "a name that is not a variable": line("2nd << Tell me"),
        "a name that is a keyword of Python": line("-o class"),
    },
    "Options from Python": {
        "an option with a typo": ask(modle="x"),
        "an unknown option": ask(zzz=1),
        "an unknown choice": ask(effort="huge"),
        "not a number": ask(max_tokens="many"),
        "a negative number": ask(max_tokens=-1),
        "not a bool": ask(stream="no"),
    },
    "The prompt": {
        "an empty prompt": ask(""),
        "a prompt of white space": ask(" \n "),
        "braces that are not closed": lambda: fill("Tell {{ me", {}),
        "not an expression": lambda: fill("a\n{{ x y }}", {}),
        "empty braces": lambda: fill("{{ }}", {}),
        "a variable with a typo": lambda: fill("{{ fram }}", {"frame": 1}),
        "an unknown variable": lambda: fill("{{ zzzz }}", {}),
        "an expression that raises": lambda: fill("{{ 1 / 0 }}", {}),
        "a system prompt that is not text": ask(system="limit", namespace={"limit": 3}),
        "a system prompt that is a missing file": ask(system="missing.md"),
        "a system prompt that is a variable with a typo": ask(
            system="sytem_prompt", namespace={"system_prompt": "Be brief."}
        ),
        "a system prompt that is an unknown variable": ask(system="my_prompt", namespace={}),
        "braces of another language": lambda: fill("${{ secrets.TOKEN }}", {}),
        "--param without a value": ask(param=["temperature"]),
        "--param with a value that is not JSON": ask(param=["metadata=me"]),
        "--param for a field that has an option": ask(param=["max_tokens=3"]),
        "--param for a field that nbchat writes": ask(param=["messages=[]"]),
        "--param for a field inside another": ask(param=["thinking.budget_tokens=2000"]),
        "--param tools that are no definitions": ask(param=["tools=1"]),
        "--param tools with a name twice": ask(param=['tools=[{"name": "a"}, {"name": "a", "strict": true}]']),
        "--param that contradicts an option": ask(param=['output_config={"effort": "low"}'], effort="high"),
        "--param that contradicts --schema": ask(param=['output_config={"format": {}}'], schema=int),
        "--param that contradicts another": ask(param=["temperature=0", "temperature=1"]),
        "--param tool_choice without tools": ask(param=['tool_choice={"type": "any"}']),
        "a domain with a scheme": ask(web_search=True, allowed_domains="https://example.org/blog"),
        "a domain that is none": ask(web_search=True, blocked_domains="localhost"),
        "a domain with a wildcard": ask(web_search=True, allowed_domains="*.example.org"),
        "domains allowed and blocked": ask(web_search=True, allowed_domains="a.org", blocked_domains="b.org"),
        "domains without a web tool": ask(allowed_domains="a.org"),
        "larger than the context window": window(0),
        "larger than the context window because of the history": window(3),
        "still too large with --trim": window(1, 20_000, trim=True),
    },
    "Settings": {
        "a setting with a typo": lambda: Nbchat({}).check({"modell": 1}),
        "an unknown setting": lambda: Nbchat({}).check({"zzz": 1}),
        "environment: not a number": setting(NBCHAT_MAX_TOKENS="many"),
        "environment: too small": setting(NBCHAT_MAX_TOKENS="0"),
        "environment: not a bool": setting(NBCHAT_QUIET="perhaps"),
        "environment: an unknown choice": setting(NBCHAT_EFFORT="huge"),
        "environment: below zero": setting(NBCHAT_BUDGET="-1"),
        "environment: not a list": setting(NBCHAT_STOP="['a'"),
        "environment: not a dict": setting(NBCHAT_ENDPOINTS="mine"),
    },
    "Endpoints": {
        "an endpoint with a typo": endpoint("bedrok"),
        "an unknown endpoint": endpoint("zzz"),
        "no credentials": endpoint(installed=False),
        "a Claude model without credentials": endpoint(model="claude-opus-5-5"),
        "a Claude model at the local endpoint": endpoint("local", model="claude-opus-5-5"),
        "an endpoint without base_url": endpoint("mine", endpoints={"mine": {"url": "http://x"}}),
        "a key in the settings": endpoint("mine", endpoints={"mine": {"base_url": "http://x", "api_key": "k"}}),
        "a key that is not set": endpoint("mine", endpoints={"mine": {"base_url": "http://x", "api_key_env": "KEY_0"}}),
        "a base_url that is not a URL": endpoint("mine", endpoints={"mine": "ht!tp//x y"}),
        "a header that HTTP cannot send": endpoint(
            "mine", endpoints={"mine": {"base_url": "http://x", "headers": {"X-Key": "a\n"}}}
        ),
        "a header with a variable that is not set": endpoint(
            "mine", endpoints={"mine": {"base_url": "http://x", "headers": {"X-Key": "${KEY_0}"}}}
        ),
        "a key and a header with a key": endpoint(
            "mine",
            endpoints={"mine": {"base_url": "http://x", "api_key_env": "KEY_0", "headers": {"Authorization": "a"}}},
        ),
        "an address without a scheme": endpoint("localhost:11434"),
        "web search where there is none": lambda: refuse_unserved(["web_search"], "bedrock"),
        "bedrock without its library": platform("bedrock", installed=False),
        "vertex without its library": platform("vertex", installed=False),
        "bedrock without settings": platform("bedrock", installed=True),
        "vertex without settings": platform("vertex", installed=True),
        "foundry without settings": platform("foundry", installed=True),
    },
    "Files and citations": {
        "cite and schema": ask(cite=True, schema=int),
        "cite without a document": ask(cite=True),
        "upload to an endpoint without a Files API": upload("bedrock"),
        "upload to a transport without a Files API": upload("mine"),
        "a file that another endpoint has": upload("mine", earlier=True),
        "saving a file where there is no Files API": made_file(lambda file: file.save("/tmp")),
        "saving into a folder that is a file": made_file(
            lambda file: replace(file, name="a.txt", data=b"x").save("/dev/null")
        ),
    },
    "Budget": {
        "a request over the budget": lambda: check_budget(
            0.05, 0.04, 0.02, unknown=0, model="m", scope="this notebook today"
        ),
        "over the budget, costs unknown": lambda: check_budget(1, 0.9, 0.2, unknown=2, model="m", scope="today"),
        "a model without a price": lambda: check_budget(
            0.05, 0.0, None, unknown=0, model="my-model", scope="this notebook today"
        ),
    },
    "Requests that failed": {
        "400": answered(400, "invalid_request_error", "temperature: not supported"),
        "400, too long": answered(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        "401": answered(401, "authentication_error", "invalid x-api-key"),
        "402": answered(402, "billing_error", "Your credit balance is too low"),
        "403": answered(403, "permission_error", "Your key may not use this model"),
        "404": answered(404, "not_found_error", "model: claude-zzz"),
        "404 of something else": answered(404, None, "404 page not found"),
        "413": answered(413, "request_too_large", "Request exceeds the maximum size"),
        "429": answered(429, "rate_limit_error", "Number of requests has exceeded your limit"),
        "429, a time to wait": answered(429, "rate_limit_error", "Slow down", retry_after="3600"),
        "500": answered(500, "api_error", "Internal server error"),
        "502, an HTML page": answered(502, None, "<html><title>502 Bad Gateway</title></html>"),
        "504": answered(504, "timeout_error", "Request timed out"),
        "529": answered(529, "overloaded_error", "Overloaded"),
        "an unknown status code": answered(418, "teapot_error", "short and stout"),
        "no response in time": raised("anthropic.APITimeoutError"),
        "no connection in time": broken(type("ConnectTimeout", (TimeoutError,), {})()),
        "connection refused": raised("anthropic.APIConnectionError", cause=OSError("[Errno 111] Connection refused")),
        "JSON of another API": broken(NotTheApi("JSON without content")),
        "an HTML page instead of an answer": broken(NothingCame("text/html; charset=utf-8")),
        "an empty stream": broken(NothingCame("text/event-stream")),
        "an API key with a line break": raised("httpx2.LocalProtocolError", "Illegal header value"),
        "a wrong URL scheme": raised("httpx2.UnsupportedProtocol", "Request URL has an unsupported protocol 'ftp://'."),
        "a missing library": broken(ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")),
        "any other error": broken(ZeroDivisionError("division by zero")),
    },
    "Answers that broke off": {
        "the service is overloaded": answered(200, "overloaded_error", "Overloaded", started=True),
        "the connection was reset": raised("httpx2.ReadError", "[Errno 104] Connection reset by peer", started=True),
        "no content for too long": broken(TimeoutError(), started=True),
        "an event that is not a JSON object": broken(NotTheApi("a str"), started=True),
        "the stream ends before the end of the message": stream(BEGUN),
        "the stream has no events": stream(),
        "an event out of order": stream(BEGUN, {"type": "content_block_delta", "index": 3, "delta": {}}),
        "an error event": stream(BEGUN, {"type": "error", "error": {"type": "api_error", "message": "Oh"}}),
    },
    "Answers that cannot be used": {
        "refused with a reason": ask(answer=REFUSAL),
        "refused without a reason": ask(answer=["", {"stop_reason": "refusal"}]),
        "an empty answer": ask(answer=[]),
        "a script without a next answer": lambda: Session(ScriptedTransport()).ask("Hi"),
        "an answer that a script cannot have": ask(answer=3),
    },
    "Batches and engines": {
        "an option that batches cannot obey": lambda: batch_options(Options.of({"retry": True})),
        "an endpoint without batches": lambda: batch_door(Endpoint("mine", "m", ScriptedTransport)),
        "nothing to wait for": lambda: ask_each(rows(), ["a"], "{{ row }}", rows().options({}), waits=False),
        "an unknown batch": lambda: attach(rows(), "msgbatch_1", store=Store(":memory:")),
        "a cancelled row": lambda: failed_row({"type": "canceled"}),
        "an expired row": lambda: failed_row({"type": "expired"}),
        "a row that the service refused": lambda: failed_row({"type": "errored", "error": REFUSED_ROW}),
        "results of something else": lambda: list(read_results([b"<html>"])),
        "a budget for workers": lambda: Each("{{ text }}", {"budget": 1.0}),
        "a share of everything": lambda: Each("{{ text }}", share=8),
        "a folder without shards": lambda: merge(rows(), "nowhere", store=Store(":memory:")),
    },
}  # fmt: skip


def shown(case: Case) -> NbchatError:
    """Return the error of a case."""
    with pytest.raises(NbchatError) as caught:
        case()
    return caught.value


def document() -> str:
    """Return the text of the file: all messages, as a notebook shows them."""
    parts = [
        "<!-- Made by `python -m tests.unit.test_messages_to_people`; read each message as a user would. -->",
        "# What people read when something is wrong",
    ]
    for chapter, cases in CASES.items():
        parts.append(f"## {chapter}")
        for name, case in cases.items():
            lines = "\n".join(shown(case)._render_traceback_())
            parts.append(f"**{name}**\n```\n{lines}\n```")
    return "\n\n".join(parts) + "\n"


def sections(text: str) -> dict[str, str]:
    """Return the messages of the file by chapter and title."""
    found: dict[str, str] = {}
    chapter = ""
    for part in text.strip().split("\n\n"):
        if part.startswith("## "):
            chapter = part[3:]
        elif part.startswith("**"):
            name, _, shown = part.partition("**\n")
            found[f"{chapter}: {name[2:]}"] = shown
    return found


ALL = {f"{chapter}: {name}": case for chapter, cases in CASES.items() for name, case in cases.items()}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("KEY_0", raising=False)
    monkeypatch.delenv("ANTHROPIC_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    return None


@pytest.mark.parametrize("name", ALL)
def test_the_message_is_the_one_of_the_file(name: str):
    """A changed message changes the file, so a reviewer sees the diff."""
    lines = "\n".join(shown(ALL[name])._render_traceback_())
    assert f"```\n{lines}\n```" == sections(TABLE.read_text(encoding="utf-8")).get(name)


def test_the_file_holds_nothing_else():
    """The file has no message of a case that was removed."""
    assert sections(TABLE.read_text(encoding="utf-8")).keys() == ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_a_message_says_what_happened_and_what_to_do(name: str):
    """Each message has two short lines in plain words."""
    error = shown(ALL[name])
    head, *rest = error._render_traceback_()
    assert len(rest) == 1, "what to do"
    assert head.startswith(f"{type(error).__name__}: ")
    assert len(error.message) <= 320
    assert len(error.hint) <= 260
    for said in (error.message, error.hint):
        assert "\n" not in said
        assert said == said.strip()
        assert not re.search(r"<class|object at 0x|Traceback|\bNone\b|\{\}", said)
        assert "  " not in said
        assert ".." not in said.replace("…", "")


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "NBCHAT_"))]:
        del os.environ[name]
    os.environ["HOME"] = "/nonexistent"
    TABLE.write_text(document(), encoding="utf-8")
