"""Tests of the requests to the Models API before sending, and of their effects."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbchat import Session
from nbchat.core.errors import AttachmentError, InputError, OptionError
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, Wire, serving, streaming, text_events

YES, NO = {"supported": True}, {"supported": False}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63f8ffff3f0005fe02fe"
    "a72d13880000000049454e44ae426082"
)


class Api:
    """A service with a Models API. ``model`` is its answer for every model, or None for an error 404."""

    def __init__(self, model: dict | None, tokens: int = 0) -> None:
        self.model, self.tokens = model, tokens
        self.paths: list[str] = []

    def __call__(self, wire: Wire, request: Received) -> None:
        self.paths.append(request.path)
        if request.path.startswith("/v1/models/"):
            if self.model is None:
                wire.json("404 Not Found", {"type": "error", "error": {"type": "not_found_error", "message": "no"}})
            else:
                wire.json("200 OK", {"type": "model", "id": request.path.rsplit("/", 1)[1], **self.model})
        elif request.path.endswith("/count_tokens"):
            wire.json("200 OK", {"input_tokens": self.tokens})
        else:
            streaming(text_events(["fine"]))(wire, request)


def session_at(url: str) -> Session:
    return Session(ClaudeTransport("anthropic", base_url=url, api_key="sk-ant-test"))


def text_of(message: dict) -> str:
    content = message["content"]
    return content if isinstance(content, str) else content[0]["text"]


def model(**can) -> dict:
    return {"max_input_tokens": 200_000, "max_tokens": 64_000, "capabilities": can}


def test_a_plain_question_asks_nothing_about_the_model():
    """A plain question sends one request and does not ask the Models API."""
    with serving(api := Api(model())) as server:
        session_at(server.url).ask("Hi")
    assert api.paths == ["/v1/messages"]


def test_the_models_api_is_asked_once_a_session():
    """Two questions that need the model's capabilities cause one request to the Models API."""
    with serving(api := Api(model(effort={"supported": True, "low": YES}))) as server:
        session = session_at(server.url)
        session.ask("Hi", effort="low")
        session.ask("Hi", effort="low")
    assert api.paths == ["/v1/models/claude-sonnet-5-5", "/v1/messages", "/v1/messages"]


def test_an_effort_that_the_model_does_not_accept_is_never_sent():
    """The error names the accepted levels. Nothing is sent, and the conversation does not change."""
    with serving(api := Api(model(effort={"supported": True, "low": YES, "high": YES, "max": NO}))) as server:
        session = session_at(server.url)
        with pytest.raises(OptionError) as refused:
            session.ask("Hi", effort="max")
        assert "low, high" in refused.value.hint
        assert not len(session.conversation("main"))
    assert api.paths == ["/v1/models/claude-sonnet-5-5"]


def test_an_image_for_a_model_that_cannot_see_is_never_sent(tmp_path: Path):
    """An image is refused before sending if the model cannot read images, also as a value in the prompt."""
    (tmp_path / "dot.png").write_bytes(PNG)
    with serving(api := Api(model(image_input=NO))) as server, pytest.raises(AttachmentError, match="does not read"):
        session_at(server.url).ask("{{ dot }}", namespace={"dot": tmp_path / "dot.png"})
    assert api.paths == ["/v1/models/claude-sonnet-5-5"]


def test_the_form_of_thinking_is_accepted_by_the_model():
    """A model that accepts only a thinking budget gets a budget."""
    only_budget = {"supported": True, "types": {"adaptive": NO, "enabled": YES}}
    with serving(Api(model(thinking=only_budget))) as server:
        session_at(server.url).ask("Hi", thinking=True)
    assert server.requests[-1].body["thinking"] == {"type": "enabled", "budget_tokens": 4096}


def test_more_tokens_than_the_models_limit_are_never_requested():
    """A ``max_tokens`` above the limit of the model raises an error that names the limit."""
    with serving(Api(model())) as server, pytest.raises(OptionError, match="64,000"):
        session_at(server.url).ask("Hi", max_tokens=100_000)


@pytest.mark.parametrize("told", [None, {}, {"max_input_tokens": None, "capabilities": None}])
def test_an_endpoint_without_capabilities_refuses_nothing(told):
    """The request is sent unchanged if there is no Models API, or if its answer is empty or null."""
    with serving(api := Api(told)) as server:
        assert session_at(server.url).ask("Hi " * 100_000, thinking=True, effort="max", web_search=True)
    assert api.paths[-1] == "/v1/messages"


def test_a_large_request_is_counted_and_refused_before_it_is_sent():
    """A large request is counted by the endpoint. If it exceeds the window, the error names its largest parts."""
    with serving(api := Api(model(), tokens=210_000)) as server:
        session = session_at(server.url)
        with pytest.raises(InputError) as refused:
            session.ask("x" * 700_000)
    assert api.paths == ["/v1/models/claude-sonnet-5-5", "/v1/messages/count_tokens"]
    assert "210,000" in refused.value.message
    assert "200,000" in refused.value.message
    assert "the prompt's own text" in refused.value.message


def test_a_large_request_that_fits_by_the_exact_count_is_sent():
    """A request that fits by the endpoint's count is sent, although the estimate exceeds the window."""
    with serving(api := Api(model(), tokens=120_000)) as server:
        assert session_at(server.url).ask("x" * 900_000)
    assert api.paths[-1] == "/v1/messages"


def test_trim_drops_turns_and_adds_a_note():
    """The notes tell what was dropped. The request has the newer turns."""
    with serving(api := Api(model(), tokens=220_000)) as server:
        session = session_at(server.url)
        for letter in "ab":
            session.ask(letter * 150_000)
        response = session.ask("c" * 150_000, trim=True)
    assert response.notes == ("--trim dropped the oldest turn of the history",)
    sent = [text_of(message)[0] for message in server.requests[-1].body["messages"]]
    assert sent == ["b", "f", "c"]
    assert api.paths.count("/v1/models/claude-sonnet-5-5") == 1


def test_a_replay_needs_no_server(tmp_path: Path):
    """A recording with thinking, effort and a long prompt is replayed without any request."""
    with serving(Api(model(), tokens=90_000)) as server:
        session = session_at(server.url)
        session.recording.use_cassette(str(tmp_path / "c.jsonl"), "record")
        asked = {"thinking": True, "effort": "high", "max_tokens": 20_000}
        recorded = session.ask("x" * 300_000, **asked)
    offline = session_at("http://127.0.0.1:9")
    offline.recording.use_cassette(str(tmp_path / "c.jsonl"), "replay")
    replayed = offline.ask("x" * 300_000, **asked)
    assert replayed.replayed
    assert replayed.digest == recorded.digest


def test_the_listed_window_applies_without_a_models_api():
    """The listed window applies on Bedrock and Vertex. A beta may allow more, and an unknown model has no window."""
    with serving(api := Api(None, tokens=1_100_000)) as server:
        with pytest.raises(InputError, match="1,000,000"):
            session_at(server.url).ask("x" * 3_900_000)
        assert "/v1/messages" not in api.paths
        assert session_at(server.url).ask("x" * 3_900_000, param='betas=["context-2m"]')
        assert session_at(server.url).ask("x" * 3_900_000, model="mine")
