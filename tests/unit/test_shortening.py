"""Tests of fitting a draft to an endpoint: the length of the answer, and values that leave room for it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.content.sizes import most_tokens
from nbchat.core.errors import InputError
from nbchat.engine import host
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.fitting import most_tokens_of

WINDOW = 4096


class Counting:
    """A value that counts how often the prompt asks for it."""

    def __init__(self, value: Any) -> None:
        self.value, self.asked = value, 0

    def get(self) -> Any:
        self.asked += 1
        return self.value


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a session whose endpoint has the window of the embedded model, and counts nothing."""
    transport = ScriptedTransport("Fine.", repeat=True)
    # Not the shell that another test may have left.
    session = Session(transport, host=host.PlainHost())
    endpoint = Endpoint(
        "scripted", "small", lambda: transport, window=WINDOW, max_tokens=512, ignores=("tools", "run", "thinking")
    )
    monkeypatch.setattr(session.endpoints, "find", lambda options: endpoint)
    return session


def values() -> dict[str, Any]:
    """Return values of many kinds, each too large for the window."""
    import numpy
    import pandas
    import polars

    random = numpy.random.default_rng(0)
    numbers = random.normal(size=(500, 5))
    return {
        "pandas": pandas.DataFrame(numbers, columns=list("abcde")),
        "polars": polars.DataFrame({"x": numbers[:, 0].tolist(), "city": ["Oslo", "Bodø"] * 250}),
        "series": pandas.Series(range(100_000, 110_000)),
        "array": numbers,
        "list": list(range(20_000)),
        "dict": {f"key {number}": [number, "äöü"] for number in range(3_000)},
        "rich": [pandas.DataFrame(numbers), pandas.DataFrame(numbers)],
        "text of others": ["Все люди рождаются свободными."] * 900,
        "error": ValueError("x = 3.14; " * 3_000),
    }


@pytest.mark.parametrize("name", values())
def test_a_value_is_cut_for_the_window_at_hand(small: Session, name: str):
    """The value fits with room for the next turn, its expression ran once, and the user is told what was cut."""
    value = Counting(values()[name])
    response = small.ask("Look at {{ value.get() }} and sum up", namespace={"value": value})
    assert value.asked == 1
    assert most_tokens(response.prompt) <= WINDOW * 0.6
    assert len(response.prompt) > 200, "as much as fits is sent"
    assert response.notes
    assert small.ask("And {{ value.get() }}?", namespace={"value": Counting(1)}).text == "Fine."


def test_a_conversation_about_large_values_can_go_on(small: Session):
    """Each turn leaves half of the room to those after it, and still shows rows."""
    lengths = [len(small.ask("{{ x }}", namespace={"x": list(range(20_000))}).prompt) for _ in range(3)]
    assert lengths[0] > lengths[1] > lengths[2] > 300


def test_small_values_stay_whole_next_to_a_large_one(small: Session):
    """All values have the same limit, so only the large one is cut."""
    namespace = {"large": list(range(20_000)), "small": {"city": "Oslo", "people": [709_037] * 9}}
    response = small.ask("{{ large }} or {{ small }}", namespace=namespace)
    assert response.prompt.count("709037") == 9
    assert [note.partition(":")[0] for note in response.notes] == ["large"]


def test_a_value_that_fits_is_sent_as_to_any_other_endpoint(small: Session):
    """The window changes nothing where it is large enough, so recorded answers are found."""
    ask = {"prompt": "Sum {{ numbers }}", "namespace": {"numbers": list(range(200))}}
    other = Session(ScriptedTransport("Fine."))
    assert small.ask(**ask).messages[0] == other.ask(**ask).messages[0]


def test_a_literal_brace_is_not_evaluated_when_the_values_are_cut(small: Session):
    """The parts of the template stay as they are when its values are carried again."""
    response = small.ask("\\{{ 1 / 0 }} {{ numbers }}", namespace={"numbers": list(range(20_000))})
    assert response.prompt.startswith("{{ 1 / 0 }} ")


@pytest.mark.parametrize("prompt", ["12.5 " * 4_000, "word " * 9_000, "数" * 20_000])
def test_what_cannot_be_cut_is_refused_with_the_figures(small: Session, prompt: str):
    """The user's own text is never cut. Nothing is sent."""
    with pytest.raises(InputError, match="4,096: nothing was sent") as caught:
        small.ask(prompt)
    tokens, largest = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) tokens", caught.value.message))
    assert largest == pytest.approx(tokens, rel=0.01)


def test_the_endpoint_counts_where_the_estimate_is_close(small: Session):
    """The tokens that the endpoint counts decide, and the parts in the message are scaled to them."""
    transport: Any = small.endpoints.find(small.options({})).transport
    transport.count_tokens = lambda request: 9_000
    with pytest.raises(InputError, match=r"9,000 tokens.*about 9,000 tokens"):
        small.ask("12.5 " * 1_000)
    assert small.ask("12.5 " * 100).text == "Fine."  # a small request is not counted
    transport.count_tokens = lambda request: 3_000
    assert small.ask("12.5 " * 1_000, once=True).text == "Fine."


def test_the_history_does_not_cut_values_that_trim_makes_room_for(small: Session):
    """With --trim the oldest turns go, and the new value stays as long as without them."""
    frame = {"numbers": list(range(20_000))}
    for _ in range(2):
        small.ask("{{ numbers }}", namespace=frame)
    fresh = small.ask("{{ numbers }}", namespace=frame, once=True)
    trimmed = small.ask("{{ numbers }}", namespace=frame, trim=True)
    assert len(trimmed.prompt) == len(fresh.prompt)


@pytest.mark.parametrize(
    ("given", "environment", "length"),
    [
        ({}, {}, 512),
        ({"max_tokens": 8192}, {}, 8192),
        ({"max_tokens": 7}, {"NBCHAT_MAX_TOKENS": "9"}, 7),
        ({}, {"NBCHAT_MAX_TOKENS": "8192"}, 8192),
    ],
)
def test_the_answers_of_the_embedded_model_are_short_unless_the_user_says_otherwise(
    given: dict[str, Any], environment: dict[str, str], length: int
):
    """The user's own length wins, as an option or as a setting, also where it equals the default."""
    session = Session("local", config=Nbchat(environment))
    prepared = session.prepare("Hi", session.options(given))
    assert (prepared.request.max_tokens, prepared.draft.max_tokens) == (length, length)


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, None),
        ({"tools": [double]}, "ignores --tools"),
        ({"thinking": True}, "ignores --thinking"),
        ({"thinking": True, "effort": "low", "tools": [double]}, "ignores --thinking, --effort, --tools"),
    ],
)
def test_an_option_that_the_embedded_model_ignores_is_named(given: dict[str, Any], said: str | None):
    """The line is a note of the request: it is shown before the answer and stays below it."""
    session = Session("local")
    prepared = session.prepare("Hi", session.options(given))
    assert prepared.draft.notes == (() if said is None else (f"SmolLM2-135M-Instruct {said}",))
    assert "thinking" not in prepared.request.params


@pytest.mark.parametrize("name", ["run", "tools", "thinking", "effort"])
def test_each_option_without_an_effect_is_said_alone(name: str):
    """Also ``--run``, which only a notebook has."""
    session = Session("local")
    options = replace(session.options({}), **{name: True})
    said = session.endpoints.find(options).ignored(options)
    assert said == f"SmolLM2-135M-Instruct ignores --{name}"


@pytest.mark.parametrize("name", ["web_search", "web_fetch", "code_execution"])
def test_a_tool_of_the_service_is_not_offered_to_the_embedded_model(name: str):
    """The note names the option: without the search that was asked for, the answer is worth less."""
    session = Session("local")
    prepared = session.prepare("Hi", session.options({name: True}))
    assert prepared.draft.notes == (f"SmolLM2-135M-Instruct ignores --{name.replace('_', '-')}",)
    assert prepared.request.tools == ()


@pytest.mark.parametrize("name", ["web_search", "web_fetch", "code_execution"])
def test_a_tool_of_the_service_is_refused_by_a_model_of_the_users_own(name: str, tmp_path: Path):
    """Such a model may call tools, but nothing runs those of the service. The error names the option."""
    weights = tmp_path / "own.gguf"
    weights.write_bytes(b"GGUF")
    session = Session("local")
    with pytest.raises(InputError) as refused:
        session.prepare("Hi", session.options({name: True, "model": str(weights)}))
    flag = "--" + name.replace("_", "-")
    assert str(refused.value).splitlines() == [
        f"{flag}: the endpoint 'local' does not run this tool",
        f"Leave out {flag}, or name another endpoint with --endpoint.",
    ]


def test_a_script_is_told_once_on_standard_error(
    small: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Standard output belongs to the script. A second question of the same kind repeats nothing."""
    monkeypatch.setattr(host, "_told", set())
    endpoint = small.endpoints.find(small.options({}))
    for why in ("no credentials were found: ", "", ""):
        endpoint.notice = f"{why}the embedded model answers, a toy"
        small.ask("Sum {{ numbers }}", namespace={"numbers": list(range(20_000))}, once=True)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "nbchat: no credentials were found: the embedded model answers, a toy"
    assert len(lines) == 2
    assert lines[1].startswith("nbchat: numbers: ")


def test_the_careful_count_is_not_computed_for_megabytes():
    """A text that is far too large is counted in milliseconds, by its length alone."""
    from nbchat.core.messages import Message
    from nbchat.core.request import Request

    request = Request("m", (Message.of("user", "ab" * 10_000_000),), 10, system="Brief.")
    assert most_tokens_of(request, WINDOW) == 5_000_002
