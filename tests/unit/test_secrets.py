"""Secrets are removed from what is shown and stored, whatever their length and wherever they are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from traitlets.config import Config

from nbchat.config import Nbchat
from nbchat.core.errors import NbchatError, TransportError
from nbchat.core.secrets import keep_header, keep_secret, keep_url, mask, redact, redact_message, shown_url
from nbchat.engine.doctor import examine
from nbchat.engine.session import Session
from nbchat.notebook import commands
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.scripted import ScriptedTransport
from tests.support import server as api


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com"),
        ("https://ada:pw@h.org:80/v1", "https://ada:…@h.org:80/v1"),
        ("https://ada:p@w:x@h.org/v1", "https://ada:…@h.org/v1"),
        ("https://token@h.org/api/anthropic", "https://…@h.org/api/anthropic"),
        ("https://h.org/k3y/v1", "https://h.org/…/v1"),
        ("https://h.org/secret?key=abc#def", "https://h.org/…"),
        ("http://[::1]:8000/v1beta1", "http://[::1]:8000/v1beta1"),
    ],
)
def test_the_url_of_an_endpoint_is_shown_without_secrets(url: str, shown: str):
    """A second time changes nothing."""
    assert shown_url(url) == shown
    assert shown_url(shown) == shown


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no answer from https://ada:pw@h.org/v1.", "no answer from https://ada:…@h.org/v1."),
        ("see https://h.org/docs/en/api/errors#x", "see https://h.org/docs/en/api/errors#x"),
        ("at 'https://h.org/abcdef123456789/v1'", "at 'https://h.org/…/v1'"),
        ("GET https://h.org/v1?api_key=abc&x=1 404", "GET https://h.org/v1?api_key=…&x=1 404"),
        ("model https://h.org/claude-sonnet-4-20250514", "model https://h.org/claude-sonnet-4-20250514"),
        ("a://b is not a host: x@y", "a://b is not a host: x@y"),
        ("bad http://[::1", "bad http://[::1"),
    ],
)
def test_messages_lose_the_secrets_of_urls(text: str, clean: str):
    """Other addresses stay as they are."""
    assert redact_message(text) == clean
    assert redact_message(clean) == clean


def test_short_keys_leave_messages_but_not_answers():
    """In an answer, a short key may be an ordinary word."""
    for secret in ("k3y", "pw", "a", "", None, "none", "ollama"):
        keep_secret(secret)
    assert NbchatError("k3y refused", "pw? k3ys, a none").message == "… refused"
    assert NbchatError("x", "pw? k3ys, a none, ollama").hint == "…? k3ys, a none, ollama"
    assert redact("k3y") == "k3y"


def test_every_form_of_the_password_of_a_url_is_removed():
    """As it is written, decoded, and in the header that is made of it."""
    keep_url("https://ada:p%40ssw0rd-1@h.org/9f8e7d6c5b/v1?token=query-token")
    for form in ("p%40ssw0rd-1", "p@ssw0rd-1", "YWRhOnBAc3N3MHJkLTE=", "9f8e7d6c5b", "query-token"):
        assert redact(f"<{form}>") == "<…>"
    assert redact("/v1") == "/v1"


#: A key in each place where a person may write a setting, and in each form that cannot be read.
KEY = "hunter2x"
DESCRIBED = {"base_url": "https://h.org", "api_key": KEY}
UNREADABLE = [repr(DESCRIBED), repr(DESCRIBED)[:-1], f"lab={KEY}", f"{{'lab': {KEY}}}", f"[{KEY!r}]", json.dumps([KEY])]


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("variable", ["NBCHAT_ENDPOINTS", "NBCHAT_PRICES"])
def test_a_variable_that_is_no_dict_is_not_quoted(variable: str, text: str):
    """Nobody knows where the keys are in a text that cannot be read."""
    text = text.replace("'base_url'", "base_url")
    with pytest.raises(NbchatError, match=f"^{variable}: it should be a Python dict") as caught:
        Nbchat({variable: text})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["endpoint", "model", "chat", "effort", "max_tokens", "budget", "stop", "once"])
@pytest.mark.parametrize("value", [DESCRIBED, [DESCRIBED], {"lab": {"headers": {"X-Api-Key": KEY}}}], ids=repr)
def test_a_wrong_value_is_quoted_without_its_keys(name: str, value: object):
    """From a keyword of ask, and from %config."""
    value = [value] if name == "stop" else value
    with pytest.raises(NbchatError) as caught:
        Session(ScriptedTransport("x")).ask("Hi", **{name: value})
    assert KEY not in str(caught.value)
    with pytest.raises(NbchatError) as caught:
        Nbchat({}).update_config(Config({"Nbchat": {name: {"k": value}}}))
    assert KEY not in str(caught.value)
    assert KEY not in str(caught.value.__context__)


@pytest.mark.parametrize(
    "line",
    [
        f"mcp add --header 'Authorization Bearer {KEY}' lab https://h.org",
        f"mcp add lab TOKEN={KEY} 'server --x",
        f"mcp add lab https://ada:{KEY}@h.org 'x",
    ],
)
def test_a_wrong_line_is_quoted_without_its_keys(line: str):
    """Before anything is started."""
    with pytest.raises(NbchatError) as caught:
        commands.run(line, Session(ScriptedTransport("x")), SimpleNamespace(user_ns={}))
    assert KEY not in str(caught.value)


def test_an_endpoint_with_a_key_or_of_another_type_is_refused_without_the_key():
    """The setting has api_key_env for the name of a variable, and no api_key."""
    for described in (DESCRIBED, [DESCRIBED], (KEY,), 3):
        session = Session("lab", config=Nbchat({}, endpoints={"lab": described}))
        with pytest.raises(NbchatError, match=r"Nbchat\.endpoints\['lab'\]") as caught:
            session.ask("Hi")
        assert KEY not in str(caught.value)
    for param in (f"api_key={KEY}", f"mcp_servers=[{{'authorization_token': '{KEY}'}}]", f"{{'token': '{KEY}'}}"):
        with pytest.raises(NbchatError, match="--param") as caught:
            Session(ScriptedTransport("x")).ask("Hi", param=param)
        assert KEY not in str(caught.value)


def test_a_key_of_letters_in_the_path_of_an_endpoint_leaves_paths_only():
    """It may be an ordinary word, so it stays in prose and in answers."""
    keep_url("https://h.org/team/sesame/v1")
    assert redact_message("404 for /sesame/v1/messages, /team. A team said sesame") == (
        "404 for /…/v1/messages, /…. A team said sesame"
    )
    assert redact_message("/sesameseeds /team-x") == "/sesameseeds /team-x"
    assert redact("GET /sesame/v1") == "GET /sesame/v1"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("""got {'api_key': 'a', "token": "b c"}""", """got {'api_key': '…', "token": "…"}"""),
        ("""{"X-Api-Key" : 'it\\'s', 'id': '1'}""", """{"X-Api-Key" : '…', 'id': '1'}"""),
        ('max_tokens: \'many\', "max_tokens": "9"', 'max_tokens: \'many\', "max_tokens": "9"'),
        ("{'api_key_env': 'VAR'}", "{'api_key_env': 'VAR'}"),
        ("proxy ada:pw@h:80 at 12:30, a: b@c, mailto:ada@h.org", "proxy ada:…@h:80 at 12:30, a: b@c, mailto:ada@h.org"),
    ],
)
def test_a_value_beside_the_name_of_a_secret_leaves_messages(text: str, clean: str):
    """Whatever its length: the name says that it is one. Other values stay."""
    assert redact_message(text) == clean
    assert redact_message(clean) == clean


def test_an_address_without_a_scheme_is_refused_without_its_password():
    """The message names the address."""
    with pytest.raises(NbchatError, match="--endpoint ada:…@host/v1") as caught:
        Session().ask("Hi", endpoint="ada:pw1@host/v1")
    assert "pw1" not in str(caught.value)


def test_settings_are_shown_without_secrets(capsys: pytest.CaptureFixture[str]):
    """By %nbchat config and by the doctor."""
    environment = {
        "NBCHAT_ENDPOINT": "http://ada:pw@127.0.0.1:1/k3y/v1",
        "NBCHAT_ENDPOINTS": "{'lab': {'base_url': 'http://u:hunter2@127.0.0.1:1', "
        "'api_key': 'abc', 'api_key_env': 'VAR', 'headers': {'X-Team': 'chem'}}}",
    }
    session = Session(ScriptedTransport("ready"), config=Nbchat(environment))
    commands.run("config", session, SimpleNamespace(user_ns={}))
    examine(session)
    shown = capsys.readouterr().out
    assert not [secret for secret in ("pw", "k3y", "hunter2", "'abc'", "chem") if secret in shown]
    assert "http://ada:…@127.0.0.1:1/…/v1" in shown
    assert "'api_key_env': 'VAR', 'headers': {'X-Team': '…'}" in shown
    assert mask(("https://a:b@h",)) == ("https://a:…@h",)


def test_an_endpoint_by_its_url_leaves_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not in the Response, its file, the ledger, the journal or the cassette."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    with api.serving(api.streaming(api.text_events(["Fine."]))) as server:
        url = server.url.replace("http://", "http://ada:pw1@") + "/k3y"
        session = Session()
        session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
        response = session.ask("Hi", endpoint=url)
        assert server.requests[0].path.startswith("/k3y/")
    saved = response.save(tmp_path / "r.json").read_text("utf-8")
    stored = json.dumps([entry.to_dict() for entry in session.accounting.run]) + (tmp_path / "tape.jsonl").read_text()
    assert response.text == "Fine."
    for text in (response.endpoint, saved, stored, repr(response)):
        assert not [secret for secret in ("pw1", "k3y") if secret in text]


@pytest.mark.parametrize(
    ("name", "value", "stays"),
    [
        ("X-Format", "application/json", True),
        ("X-Team", "chemistry-group", True),
        ("X-Date", "2026-11-29", True),
        ("X-Gateway-Auth", "correct-horse-battery", False),
        ("X-Api-Token", "Bearer correct-horse", False),
        ("X-Anything", "a1b2c3d4e5f6g7", False),
    ],
)
def test_an_answer_keeps_the_ordinary_values_of_headers(name: str, value: str, stays: bool):
    """A cassette would otherwise lose words of answers. A message loses each value, in case it is a key."""
    keep_header(name, value)
    word = value.removeprefix("Bearer ")
    assert (word in redact(f"Send {word} with it.")) is stays
    assert word not in redact_message(f"Send {word} with it.")


def test_an_error_that_echoes_a_header_shows_no_key():
    """Gateways repeat what they were sent, and a key can be in any header."""
    headers = {"X-Team": "tk-9", "X-Gateway-Auth": "Bearer long-gateway-value", "Accept": "application/json"}
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": str(headers)}}
    with api.serving(lambda wire, request: wire.json("400 Bad Request", body)) as server:
        transport = ClaudeTransport("mine", base_url=server.url, default_headers=headers, max_retries=0)
        with pytest.raises(TransportError) as caught:
            Session(transport).ask("Hi")
    assert not [secret for secret in ("tk-9", "long-gateway-value") if secret in str(caught.value)]
    assert "application/json" in str(caught.value)


PATTERNS = [
    *(
        "a",
        "a_",
        "a-",
        "A",
        "x.",
        "-",
        "_",
        ".",
        "+",
        "1",
        "key",
        "sk-",
        "sk-ant-",
        "bearer ",
        "x-api-key: ",
        "a=",
        "a:",
    ),
    *(",a:", "-:", "'", '"', "'key':'", "'key':\"", '"a key', "'key", "http://", "http://a@", "//a:", "a@", ":@", "/"),
    *("?key", "?key=", "&key", "?a=b&", "%41", "\\", "\\'", " ", "\n", "mailto:", "http:", "a1", "[", "é", "\u2028"),
]


@pytest.mark.parametrize("before", ["", "http://x/", "http://x/?", "http://", "'", "bearer ", "user:"])
def test_the_text_of_others_is_read_in_linear_time(before: str):
    """An endpoint can answer with an error of any text, and nothing can stop an expression that searches it."""
    for pattern in PATTERNS:
        began = time.thread_time()
        redact_message(before + (pattern * 20_000)[:20_000])
        took = time.thread_time() - began
        assert took < 1, (pattern, took)
