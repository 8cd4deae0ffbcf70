"""Tests of ``--dry-run``: the description is exact and complete, and nothing is sent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nbchat
from nbchat import ScriptedTransport, Session
from nbchat.core.errors import BudgetError
from nbchat.notebook.dry_run import MAX_PART_CHARACTERS, describe
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import serving

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63f8ffff3f0005fe02fe"
    "a72d13880000000049454e44ae426082"
)


def dry(session: Session, prompt: str, namespace: dict | None = None, **given) -> str:
    return describe(session.prepare(prompt, session.options(given), namespace=namespace or {}), session)


def test_every_part_is_shown_completely():
    """The description shows the system prompt, tools, turns, values by name and parameters completely."""
    transport = ScriptedTransport("The first answer.")
    session = Session(transport)
    session.ask("The first question.")
    rows = list(range(500))
    shown = dry(
        session, "Look at {{ rows }} please.", {"rows": rows}, system="Be brief.", web_search=True, effort="low"
    )
    assert len(transport.requests) == 1  # nothing was sent
    for said in (
        "dry run: nothing was sent. To scripted, model scripted",
        "── system", "Be brief.", "── tool web_search", "web_search_20250305",
        "── turn 1, user", "The first question.", "── turn 1, assistant", "The first answer.",
        "── user, json rows", "Look at", "please.",
        '"output_config": {"effort": "low"}', '"cache_control": {"type": "ephemeral"}', '"max_tokens": 8192',
    ):  # fmt: skip
        assert said in shown, said
    assert all(re.search(rf"\b{number}\b", shown) for number in rows)
    assert re.match(r".*\nin all [\d,]+ tokens \(.*\ncosts .*; digest [0-9a-f]{12}\n── ", shown)


def test_a_call_is_spelled_as_everywhere_else():
    """The description of a turn with a call has the tool's own name, and no JSON."""

    def today(city: str) -> str:
        return "rain"

    called = {"tool": "weather__today", "input": {"city": "Oslo"}}
    session = Session(ScriptedTransport(called, "It rains."))
    tool = nbchat.tool(today, name="weather.today")
    session.ask("The weather?", tools=[tool])
    prepared = session.prepare("And now?", session.options({"tools": [tool]}), namespace={})
    assert "tool_use" in (shown := describe(prepared, session))
    assert "→ weather.today(city='Oslo')\n── turn 1, user, tool_result" in shown


def test_a_budget_does_not_refuse_a_dry_run():
    """The description says that the request would not be sent, and why."""

    def count(wire, request):
        assert request.path.endswith("count_tokens")
        wire.json("200 OK", {"input_tokens": 1_000})

    with serving(count) as server:
        session = Session(ClaudeTransport("anthropic", base_url=server.url, api_key="sk-ant-test"))
        shown = dry(session, "Hi", budget=0.01, dry_run=True)
        assert "\n! it would not be sent: this request could cost $" in shown.partition("──")[0]
        with pytest.raises(BudgetError):
            dry(session, "Hi", budget=0.01)


def test_the_digest_is_the_one_of_the_request():
    """The description has the digest of the request that would be sent."""
    session = Session(ScriptedTransport("Hello"))
    shown = dry(session, "Hi")
    assert session.ask("Hi").digest.startswith(re.search("digest (.*)", shown)[1])


def test_an_image_is_shown_by_kind_size_and_tokens(tmp_path: Path):
    """An image is shown by its size and tokens, because its data tells a reader nothing."""
    (tmp_path / "dot.png").write_bytes(PNG)
    shown = dry(Session(ScriptedTransport()), "See {{ file }}", {"file": tmp_path / "dot.png"})
    assert re.search(r"── user, image \(about \d+ tokens?\)\nimage/png, \d+ bytes", shown)


def test_a_shortened_value_is_reported():
    """The description shows the notes about shortened values."""
    shown = dry(Session(ScriptedTransport()), "{{ rows }}", {"rows": list(range(100_000))})
    assert re.search(r"^! rows: .*100,000", shown, re.MULTILINE)


def test_a_very_long_part_is_cut_and_marked():
    """A cut part says how many characters are shown, how many would be sent, and how to see all of them."""
    shown = dry(Session(ScriptedTransport()), "{{ text }}", {"text": "x" * (MAX_PART_CHARACTERS + 1_000)})
    assert f"[shown: {MAX_PART_CHARACTERS:,} of {MAX_PART_CHARACTERS + 1_000:,} characters" in shown
    assert "NAME <<" in shown


def test_the_endpoint_counts_the_tokens_and_gets_no_other_request():
    """The endpoint gets one request, to ``count_tokens``. A known model has a price."""

    def count(wire, request):
        wire.json("200 OK", {"input_tokens": 1_234_567})

    with serving(count) as server:
        session = Session(ClaudeTransport("anthropic", base_url=server.url, api_key="sk-ant-test"))
        shown = dry(session, "Hi", system="Be brief.", model="claude-sonnet-5-5")
    assert [request.path for request in server.requests] == ["/v1/messages/count_tokens"]
    assert server.requests[0].body["system"] == "Be brief."
    assert "max_tokens" not in server.requests[0].body
    assert "1,234,567 tokens (counted by the endpoint)" in shown
    assert re.search(r"costs about \$\d+\.\d\d, and at most \$\d+\.\d\d with the longest answer", shown)


def test_tokens_are_estimated_without_a_count_and_an_unknown_price_is_reported():
    """The tokens are estimated if the server has no ``count_tokens``. An unknown price is reported as unknown."""

    def missing(wire, request):
        wire.json("404 Not Found", {"type": "error", "error": {"type": "not_found_error", "message": "no"}})

    with serving(missing) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url))
        shown = dry(session, "x" * 400, model="mine-1")
    assert "in all 100 tokens (estimated)" in shown
    assert "the price of mine-1 is not known" in shown


def test_a_recorded_answer_is_free_and_another_has_its_price(tmp_path: Path):
    """A recorded answer is free. Any other request has a price, even if replay would refuse it."""
    session = Session(ScriptedTransport("Fine."))
    session.recording.use_cassette(str(tmp_path / "c.jsonl"))
    session.ask("Hi", once=True)
    shown = dry(session, "Hi", once=True)
    assert "costs nothing: the answer is recorded" in shown
    assert "in all 1 token (estimated)" in shown  # a recorded request sends nothing, not even to count its tokens
    assert "costs about $" in dry(session, "Something else", once=True)
    session.recording.use_cassette(str(tmp_path / "c.jsonl"), "replay")
    assert "costs about $" in dry(session, "Something else", once=True)
