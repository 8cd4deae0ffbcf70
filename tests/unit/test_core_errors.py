"""The error tree, the display of errors, and the redaction of keys."""

from __future__ import annotations

import pickle
import re

import pytest

from nbchat.core import errors, secrets
from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    BudgetError,
    CassetteMiss,
    ConnectionFailed,
    NbchatError,
    OptionError,
    OverloadedError,
    ParseError,
    RateLimitError,
    StreamError,
    TransportError,
    from_api,
    nearest,
    redact,
)

ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NbchatError)]


def test_the_tree_is_the_one_drawn_in_the_docstring():
    """A new error must be drawn there, at its place in the tree."""
    drawn: list[type] = []
    checked = 0
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ((?:│   |├── |└── |    )*)([A-Z]\w+)\b", line):
            depth = len(found[1]) // 4
            assert hasattr(errors, found[2]), line
            kind = getattr(errors, found[2])
            del drawn[depth:]
            if drawn:
                assert kind.__bases__ == (drawn[-1],), line
                checked += 1
            drawn.append(kind)
    names = set(re.findall(r"[A-Z]\w+(?:Error|Failed|Miss)\b", errors.__doc__))
    assert {kind.__name__ for kind in ALL} == names
    assert checked == len(ALL) - 1, "every class but the root has a parent in the drawing"


def test_every_error_is_public():
    """Users can catch each error by its name."""
    assert {kind.__name__ for kind in ALL} <= set(errors.__all__)


@pytest.mark.parametrize("kind", ALL)
def test_a_notebook_shows_the_message_and_the_hint(kind):
    """IPython calls _render_traceback_ and prints its lines."""
    error = kind("the flag --x is unknown", "Leave it out.")
    assert error._render_traceback_() == [f"{kind.__name__}: the flag --x is unknown", "Leave it out."]
    assert kind("alone")._render_traceback_() == [f"{kind.__name__}: alone"]
    assert str(error) == "the flag --x is unknown\nLeave it out."


def test_ipython_shows_those_lines_and_the_cell_still_fails():
    """IPython really calls this hook."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    with capture_output() as shown:
        result = shell.run_cell(
            "from nbchat.core.errors import OptionError\nraise OptionError('no flag --modle', 'Did you mean --model?')"
        )
    assert isinstance(result.error_in_exec, OptionError)
    assert shown.stdout.strip().splitlines() == ["OptionError: no flag --modle", "Did you mean --model?"]


def test_errors_have_attributes_for_programs():
    """A program does not have to parse the message."""
    budget = BudgetError("over", spent=0.04, limit=0.05, estimate=0.02)
    assert (budget.spent, budget.limit, budget.estimate) == (0.04, 0.05, 0.02)
    assert ParseError("bad", problems=["a: missing"], response="r").problems == ("a: missing",)
    assert StreamError("cut", partial="so far", type="overloaded_error").partial == "so far"
    miss = CassetteMiss("none", "record", digest="d", difference="-a\n+b")
    assert miss._render_traceback_() == ["CassetteMiss: none", "record", "-a\n+b"]


def test_errors_survive_pickling():
    """Process pools and ipyparallel send errors back pickled."""
    error = pickle.loads(pickle.dumps(RateLimitError("slow", "wait", retry_after=3.0, status=429)))
    assert (error.message, error.hint, error.retry_after, error.status) == ("slow", "wait", 3.0, 429)


@pytest.mark.parametrize(
    ("type", "status", "kind"),
    [
        ("authentication_error", 401, AuthError),
        ("permission_error", 403, AuthError),
        ("billing_error", 402, AuthError),
        ("rate_limit_error", 429, RateLimitError),
        ("overloaded_error", 529, OverloadedError),
        ("overloaded_error", 200, OverloadedError),
        ("api_error", 500, OverloadedError),
        ("timeout_error", 504, ConnectionFailed),
        ("invalid_request_error", 400, BadRequestError),
        ("not_found_error", 404, BadRequestError),
        ("request_too_large", 413, BadRequestError),
        (None, 429, RateLimitError),
        (None, 401, AuthError),
        (None, 503, OverloadedError),
        (None, 418, BadRequestError),
        (None, None, BadRequestError),
        ("error_of_next_year", 429, RateLimitError),
        ("error_of_next_year", 200, BadRequestError),
    ],
)
def test_the_type_of_an_api_error_decides_then_its_status(type, status, kind):
    """An error inside a stream arrives under status 200."""
    error = from_api(type, " told why ", status=status, request_id="req_1")
    assert error.__class__ is kind  # `type` is the parameter here
    assert "told why" in error.message
    assert (error.status, error.request_id) == (status, "req_1")
    assert "req_1" in error.hint
    assert isinstance(error, TransportError)


def test_a_rate_limit_has_the_time_to_wait():
    """It is in seconds, as the service asked."""
    error = from_api("rate_limit_error", "slow down", status=429, retry_after=31.4)
    assert error.retry_after == 31.4
    assert "31 s" in error.hint


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key sk-ant-api03-AbC_d-9 here", "key sk-ant-… here"),
        ("Authorization: Bearer abcdef0123456", "Authorization: Bearer …"),
        ("x-api-key: abcdef0123456", "x-api-key: …"),
        ("Bearer authentication is a way to sign in", "Bearer authentication is a way to sign in"),
        ("the standard bearer marched", "the standard bearer marched"),
        ("sk-ant- is the prefix", "sk-ant- is the prefix"),
    ],
)
def test_redact_removes_keys_and_keeps_words(text, clean):
    """Cassettes hold redacted text, so prose must stay as it is."""
    assert redact(text) == clean
    assert redact(redact(text)) == clean


def test_a_configured_key_is_never_shown(monkeypatch):
    """A key may have any form, and one key may begin like another."""
    monkeypatch.setattr(secrets, "_secrets", set())
    monkeypatch.setattr(secrets, "_short_secrets", set())
    errors.keep_secret(" gateway-key-1 ")
    errors.keep_secret("gateway-key-1-longer")
    errors.keep_secret("short")
    errors.keep_secret(None)
    assert redact("gateway-key-1-longer, gateway-key-1, short") == "…, …, short"
    error = NbchatError("refused gateway-key-1", "see gateway-key-1")
    assert "gateway" not in str(error) + repr(error) + "".join(error._render_traceback_())


def test_nearest_helps_with_a_typo_and_is_silent_otherwise():
    """There is a hint only if it is probably right."""
    assert nearest("modle", ["model", "system"]) == "Did you mean model?"
    assert nearest("xyz", ["model", "system"]) == ""
