"""Every exception of the SDK and of its HTTP library becomes one of ours, and none contains a key.

The classes come from the installed packages, so a new release that adds a class fails here.
"""

from __future__ import annotations

import email.utils
import inspect
import time
import traceback
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from nbchat.core import secrets
from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    ConnectionFailed,
    InputError,
    NbchatError,
    OverloadedError,
    RateLimitError,
    StreamError,
    ToolError,
    TransportError,
    keep_secret,
)
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.error_mapping import KINDS, explain, retry_after, worth_retrying
from tests.support.error_classes import HOUSES, ROOTS, error_classes, unmapped

KEY = "sk-ant-api03-CANARYcanary_-0123456789"
GATEWAY_KEY = "gw.canary.7f3e9a77aa"
SAID = f"header 'Authorization: Bearer {KEY}' of {GATEWAY_KEY} refused"

CLASSES = error_classes()
UNMAPPED = unmapped(CLASSES)


def test_the_walk_finds_the_classes():
    """Otherwise the tests below would check nothing."""
    assert len(CLASSES) > 150
    assert {*ROOTS, "httpx2.ReadTimeout", "anthropic.types.tool_name_conflict_error.ToolNameConflictError"} <= set(
        CLASSES
    )


def test_no_row_names_a_root():
    """Such a row would hide the next class from these tests."""
    assert not ROOTS & set(KINDS)


def test_every_row_of_the_sdk_names_a_class_that_exists():
    """A row for a class that was renamed never matches."""
    rows = {name for name in KINDS if name.partition(".")[0] in HOUSES}
    assert rows <= set(CLASSES)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - ROOTS))
def test_every_class_is_named_by_a_row_or_below_one(name: str):
    """The row must be one of its own library. tests/places checks it in the oldest versions, too."""
    assert name not in UNMAPPED, f"{name} is not mapped: give nbchat/transports/error_mapping.py a row for it"


def _response(status: int, body: Any = None, **headers: str) -> httpx2.Response:
    request = httpx2.Request("POST", "http://endpoint/v1/messages", headers={"Authorization": f"Bearer {KEY}"})
    return httpx2.Response(status, request=request, headers={n.replace("_", "-"): v for n, v in headers.items()})


def construct(kind: type[BaseException]) -> BaseException:
    """Return a real error of this class whose text contains our keys."""
    response = _response(getattr(kind, "status_code", None) or 400)
    known = {
        "message": SAID,
        "response": response,
        "request": response.request,
        "body": {"type": "error", "error": {"type": "invalid_request_error", "message": SAID}},
    }
    arguments: dict[str, Any] = {}
    positional: list[Any] = []
    try:
        parameters = list(inspect.signature(kind).parameters.values())
    except ValueError:
        return kind(SAID)
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            if "message" not in arguments:
                positional.append(SAID)
        elif parameter.kind is not parameter.VAR_KEYWORD:
            if parameter.name in known:
                arguments[parameter.name] = known[parameter.name]
            elif parameter.default is parameter.empty:
                arguments[parameter.name] = SAID
    return kind(*positional, **arguments)


def loaded(kind: type[BaseException]) -> Exception:
    """Return the error with keys in its text, its cause and its context."""
    error = construct(kind)
    try:
        try:
            raise OSError(SAID)
        except OSError as cause:
            try:
                raise KeyError(SAID)
            except KeyError:
                raise error from cause
    except BaseException as raised:
        return raised  # type: ignore[return-value]


def shown(error: BaseException) -> str:
    """Return everything that a program could print of an error, even a suppressed context."""
    lines = [str(error), repr(error), *traceback.format_exception(error)]
    if hasattr(error, "_render_traceback_"):
        lines += error._render_traceback_()
    for inner in (error.__cause__, error.__context__):
        if inner is not None:
            lines.append(shown(inner))
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_secrets", set())
    keep_secret(GATEWAY_KEY)


def test_the_canary_would_be_seen():
    """The search finds a key in a cause, and in a context that is suppressed."""
    error = loaded(httpx2.ReadError)
    assert KEY in shown(error.__cause__)
    assert GATEWAY_KEY in shown(error.__context__)
    clean = ValueError("clean")
    clean.__context__, clean.__suppress_context__ = OSError(SAID), True
    assert GATEWAY_KEY in shown(clean)


@pytest.mark.parametrize("started", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_becomes_one_of_ours_without_a_key(name: str, started: bool):
    """Before the first event it is a TransportError, after it a StreamError."""
    ours = explain(loaded(CLASSES[name]), endpoint="anthropic", started=started, waited=3.0)
    assert isinstance(ours, NbchatError)
    assert type(ours) is not NbchatError
    if started:
        assert isinstance(ours, (StreamError, InputError, ToolError))
    else:
        assert isinstance(ours, (TransportError, InputError, ToolError))
    assert ours.message
    assert ours.hint
    assert "\n" not in ours.message
    assert "canary" not in shown(ours).lower()


CALLED = {name: kind for name, kind in CLASSES.items() if name.startswith("httpx2.") or "credentials" in name}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", sorted(CALLED))
def test_errors_of_the_http_library_while_sending_become_ours(name: str, stream: bool):
    """The errors pass through the SDK's own client. Session.ask raises one of ours, without a key in its context."""

    def send(request: httpx2.Request) -> httpx2.Response:
        raise loaded(CALLED[name])

    with httpx2.Client(transport=httpx2.MockTransport(send), verify=False) as http:
        transport = ClaudeTransport(
            "gateway", base_url="http://x", api_key=GATEWAY_KEY, http_client=http, max_retries=0
        )
        with pytest.raises((TransportError, InputError)) as caught:
            Session(transport).ask("hi", stream=stream)
    assert "canary" not in shown(caught.value).lower()
    assert caught.value.__context__ is None


class Cut(httpx2.SyncByteStream):
    """A body that sends one event and then fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Iterator[bytes]:
        yield (
            b'event: message_start\ndata: {"type": "message_start", "message": {"id": "m", "type": "message", '
            b'"role": "assistant", "model": "t", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}\n\n'
        )
        raise self.error


@pytest.mark.parametrize("name", sorted(name for name in CLASSES if name.startswith("httpx2.")))
def test_errors_of_the_http_library_in_mid_stream_become_stream_errors(name: str):
    """The SDK does not wrap them there."""

    def send(request: httpx2.Request) -> httpx2.Response:
        body = Cut(loaded(CLASSES[name]))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    with httpx2.Client(transport=httpx2.MockTransport(send), verify=False) as http:
        transport = ClaudeTransport("gateway", base_url="http://x", api_key=GATEWAY_KEY, http_client=http)
        with pytest.raises(StreamError) as caught:
            Session(transport).ask("hi")
    assert caught.value.partial.id == "m"
    assert "canary" not in shown(caught.value).lower()
    assert caught.value.__context__ is None


def status_error(status: int, body: Any, **headers: str) -> Exception:
    """Return the error that the SDK itself makes for this answer."""
    client = anthropic.Anthropic(api_key="none", http_client=_HTTP)
    return client._make_status_error(str(body), body=body, response=_response(status, **headers))


_HTTP = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(500)), verify=False)

API_TYPES = {
    "invalid_request_error": (400, BadRequestError),
    "authentication_error": (401, AuthError),
    "billing_error": (402, AuthError),
    "permission_error": (403, AuthError),
    "not_found_error": (404, BadRequestError),
    "conflict_error": (409, BadRequestError),
    "request_too_large": (413, BadRequestError),
    "rate_limit_error": (429, RateLimitError),
    "api_error": (500, OverloadedError),
    "timeout_error": (504, ConnectionFailed),
    "overloaded_error": (529, OverloadedError),
    "error_of_next_year": (418, BadRequestError),
}


@pytest.mark.parametrize("under_200", [False, True], ids=["status", "in-stream"])
@pytest.mark.parametrize("type", API_TYPES)
def test_the_type_of_an_api_error_decides(type: str, under_200: bool):
    """That is so for a first event, too, where the status is 200."""
    status, kind = API_TYPES[type]
    body = {"type": "error", "error": {"type": type, "message": "told why"}}
    ours = explain(status_error(200 if under_200 else status, body), endpoint="anthropic")
    assert ours.__class__ is kind  # `type` is the parameter here
    assert "told why" in ours.message
    assert type in ours.message


@pytest.mark.parametrize("type", API_TYPES)
def test_in_mid_stream_the_type_is_kept(type: str):
    """A program can branch on the type."""
    ours = explain(
        status_error(200, {"type": "error", "error": {"type": type, "message": "x"}}), endpoint="a", started=True
    )
    assert isinstance(ours, StreamError)
    assert ours.type == type


def llama(status: int, type: str, message: str) -> tuple[int, dict[str, Any]]:
    """Return an error in the format of llama.cpp, which has no outer type."""
    return status, {"error": {"code": status, "message": message, "type": type}}


MISSING = {"object": "error", "message": "The model does not exist", "type": "NotFoundError", "code": 404}
PAGE = "<html>\n<head><TITLE>502 Bad Gateway</TITLE></head><body>nginx</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (*llama(400, "invalid_request_error", "no such thing"), BadRequestError, "no such thing"),
        (*llama(401, "authentication_error", "Invalid API Key"), AuthError, "Invalid API Key"),
        (*llama(503, "unavailable_error", "Loading model"), OverloadedError, "unavailable_error: Loading model"),
        (404, {"error": "model 'x' not found"}, BadRequestError, "model 'x' not found"),
        (404, {"detail": "Not Found"}, BadRequestError, "Not Found"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, BadRequestError, "field required"),
        (404, MISSING, BadRequestError, "does not exist"),
        (502, PAGE, OverloadedError, "an HTML page, '502 Bad Gateway'"),
        (500, "plain words", OverloadedError, "plain words"),
        (500, "", OverloadedError, "no reason given"),
        (403, None, AuthError, "no reason given"),
        (500, ["odd"], OverloadedError, "no reason given"),
        (400, {"error": {"message": None, "type": 3}}, BadRequestError, "no reason given"),
    ],
)
def test_bodies_of_gateways_are_read(status: int, body: Any, kind: type, said: str):
    """The formats are those of llama.cpp, Ollama, FastAPI, vLLM and nginx, and some odd or empty bodies."""
    ours = explain(status_error(status, body), endpoint="mine")
    assert type(ours) is kind
    assert said in ours.message


@pytest.mark.parametrize(
    "said",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    ],
)
def test_the_hint_for_a_prompt_that_is_too_long(said: str):
    """Anthropic, llama.cpp and vLLM each report it in other words."""
    ours = explain(status_error(400, {"error": {"type": "invalid_request_error", "message": said}}), endpoint="a")
    assert "--once" in ours.hint
    assert ours.hint in str(ours)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9.0),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Fri, 99 Foo 99999999 99:99:99 GMT"}, None),
        ({}, None),
    ],
)
def test_how_long_the_service_asks_to_wait(headers: dict[str, str], wait: float | None):
    """The header has milliseconds or seconds. Anything else is ignored."""
    assert retry_after(status_error(429, None, **headers)) == wait


def test_a_date_to_wait_for():
    """HTTP allows a date. A date in the past means no wait."""
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after(status_error(429, None, retry_after=soon)) == pytest.approx(30, abs=3)
    past = email.utils.formatdate(time.time() - 300, usegmt=True)
    assert retry_after(status_error(429, None, retry_after=past)) == 0.0


@pytest.mark.parametrize(
    ("status", "headers", "again"),
    [
        (408, {}, True), (409, {}, True), (429, {}, True), (500, {}, True), (503, {}, True), (529, {}, True),
        (400, {}, False), (401, {}, False), (403, {}, False), (404, {}, False), (413, {}, False), (422, {}, False),
        (500, {"x_should_retry": "false"}, False), (400, {"x_should_retry": "true"}, True),
        (429, {"x_should_retry": "perhaps"}, True),
    ],
)  # fmt: skip
def test_which_answers_are_worth_another_try(status: int, headers: dict[str, str], again: bool):
    """The rule is the SDK's own, and the SDK itself confirms it."""
    error = status_error(status, None, **headers)
    assert worth_retrying(error) is again
    assert _sdk()._should_retry(error.response) is again


def _sdk() -> Any:
    return anthropic.Anthropic(api_key="none", http_client=_HTTP)


def test_a_key_that_does_not_fit_into_a_header_is_not_sent_again():
    """h11 would refuse the header each time."""
    error = anthropic.APIConnectionError(request=_response(200).request)
    error.__cause__ = httpx2.LocalProtocolError(f"Illegal header value b'Bearer {GATEWAY_KEY}'")
    assert not worth_retrying(error)
    ours = explain(error, endpoint="gateway")
    assert isinstance(ours, AuthError)
    assert "line breaks" in ours.hint


def test_a_cut_never_leaves_half_a_key():
    """Keys are removed from long messages before they are cut."""
    for length in range(270, 320):
        said = "x" * length + GATEWAY_KEY + " " + GATEWAY_KEY
        for error in (httpx2.InvalidURL(said), status_error(400, {"error": {"message": said + "y" * 200}})):
            assert "gw.canary" not in shown(explain(error, endpoint="a"))
