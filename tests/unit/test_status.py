"""The status line."""

from __future__ import annotations

from nbchat.core.chunks import Notice, OutputText, ResponseChunk, Thinking, ToolInput
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.usage import Usage
from nbchat.view.status import Status

REQUEST = Request("claude-x", (Message.of("user", "h" * 400),), 100)


def price(usage: Usage, model: str) -> float:
    """A dollar for a hundred tokens in, and for ten out."""
    return usage.input_tokens / 100 + usage.output_tokens / 10


def test_the_line_says_that_the_first_word_has_not_arrived():
    """Before that, the line has the model and the time."""
    status = Status(0.0)
    status.begin(REQUEST)
    assert status.line(3.5) == "claude-x · 3 s · waiting for the first word"


def test_tokens_are_estimated_while_they_arrive():
    """A token has four characters, in text, in thinking and in arguments. After a second there is a speed."""
    status = Status(0.0)
    status.begin(REQUEST)
    status.take(Thinking(0, "a" * 40), 1.0)
    status.take(OutputText(1, "a" * 40), 1.2)
    status.take(ToolInput(2, "a" * 40), 1.3)
    assert status.line(1.5) == "claude-x · 1 s · ~30 tokens"
    assert status.line(3.0) == "claude-x · 3 s · ~30 tokens · 15 tokens/s"


def test_a_round_that_ended_is_counted_as_the_endpoint_did():
    """Then nothing is estimated, and the model is the one that answered."""
    status = Status(0.0, price)
    status.begin(REQUEST)
    status.take(OutputText(0, "a" * 40), 1.0)
    assert "~$2.00" in status.line(1.5)  # 100 tokens in, 10 out
    status.take(ResponseChunk({"model": "claude-x-1"}, (), Usage(input_tokens=50, output_tokens=20)), 2.0)
    assert status.line(2.0) == "claude-x-1 · 2 s · 20 tokens · 20 tokens/s · $2.50"


def test_no_price_is_guessed_for_an_image():
    """The number of tokens of an image in the prompt is unknown."""
    status = Status(0.0, price)
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    status.begin(Request("claude-x", (Message.of("user", [image]),), 100))
    status.take(OutputText(0, "a" * 40), 1.0)
    assert "$" not in status.line(1.5)


def test_an_unknown_price_is_not_shown():
    """None is unknown, and unknown is not 0."""
    status = Status(0.0, lambda usage, model: None)
    status.take(OutputText(0, "a" * 40), 1.0)
    assert "$" not in status.line(1.5)


def test_notices_come_and_go():
    """A notice is at the end of the line. An empty notice removes it."""
    status = Status(0.0)
    status.take(Notice("waiting 3 s to try again"), 1.0)
    assert status.line(1.0).endswith("· waiting 3 s to try again")
    status.take(Notice(""), 2.0)
    assert status.line(2.0).endswith("waiting for the first word")


def test_notices_about_different_subjects_are_next_to_each_other():
    """A notice about a wait replaces the last one about a wait, but not the notice about a cut."""
    status = Status(0.0)
    status.take(Notice("df: first 20 of 10,000 rows", about="cut"), 1.0)
    status.take(Notice("83 % of the prompt from the cache", about="cache"), 1.0)
    status.take(Notice("waiting 3 s to try again"), 1.0)
    status.take(Notice("waiting 2 s to try again"), 1.0)
    assert status.line(1.0).endswith(
        "df: first 20 of 10,000 rows · 83 % of the prompt from the cache · waiting 2 s to try again"
    )
    status.take(Notice(""), 2.0)
    assert status.line(2.0).endswith("83 % of the prompt from the cache")


def test_long_times_are_in_minutes():
    """Seconds up to a minute."""
    assert Status(0.0).line(125.0).startswith("2 min 05 s")


def cached_price(usage: Usage, model: str) -> float:
    """Reading from the cache costs a tenth, and writing a quarter more."""
    return usage.input_tokens + 1.25 * usage.cache_creation_input_tokens + 0.1 * usage.cache_read_input_tokens


def test_the_line_says_whether_the_cache_paid():
    """The first turn of a conversation pays for writing, and the next ones gain from it."""
    status = Status(0.0, cached_price)
    status.take(OutputText(0, "a"), 1.0)
    status.take(ResponseChunk({}, (), Usage(10, 1, cache_creation_input_tokens=8)), 1.5)
    assert status.line(1.5).endswith("$20.00 · the cache cost $2.00 more")
    status.take(ResponseChunk({}, (), Usage(10, 1, cache_read_input_tokens=80)), 1.5)
    assert status.line(1.5).endswith("$38.00 · the cache saved $70.00")


def test_rounds_are_priced_one_by_one():
    """A model can be dearer for a long prompt, and two short prompts are not a long one."""
    status = Status(0.0, lambda usage, model: usage.input_tokens * (2.0 if usage.input_tokens > 10 else 1.0))
    status.take(OutputText(0, "a"), 1.0)
    for _ in range(2):
        status.take(ResponseChunk({}, (), Usage(10, 1)), 1.5)
    assert status.line(1.5).endswith("· $20.00")
