"""One request, built once, and one way to count its tokens."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from nbchat import Request, ScriptedTransport, Session
from nbchat.core.messages import Message
from nbchat.core.parser import events_of
from nbchat.engine import fitting
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.fitting import Count, count


def picture(side: int) -> dict[str, Any]:
    """An image block whose base64 is large, as noise cannot be compressed."""
    noise = Image.effect_noise((side, side), 100)
    data = io.BytesIO()
    noise.save(data, "PNG")
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data.getvalue()).decode()}
    return {"type": "image", "source": source}


class Uncounted:
    """A transport that cannot count. It asks for the picture, and then says what it sees."""

    name = "mine"

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @contextmanager
    def stream(self, request: Request) -> Iterator[Any]:
        self.requests.append(request)
        content: list[dict[str, Any]] = [{"type": "text", "text": "Noise."}]
        if len(self.requests) == 1:
            content = [{"type": "tool_use", "id": "a", "name": "draw", "input": {}}]
        reason = "tool_use" if len(self.requests) == 1 else "end_turn"
        message = {"role": "assistant", "content": content, "stop_reason": reason, "model": "claude-sonnet-4-5"}
        yield events_of(message)


def test_an_image_is_counted_as_an_image_where_the_endpoint_cannot_count():
    """Base64 is not text: a picture of 1,000 × 1,000 pixels has about 1,334 tokens, not half a million."""
    image = picture(1_000)
    request = Request("m", (Message.of("user", [image, {"type": "text", "text": "What is this?"}]),), 100)
    counted = count(request, Endpoint("mine", "m", Uncounted))
    assert not counted.exact
    assert 1_300 < counted.tokens < 1_400 < len(image["source"]["data"]) // 4


def test_the_budget_of_a_further_request_counts_images_as_images():
    """A tool gives back a picture. Its base64 as text would cost more than a dollar."""

    def draw() -> Any:
        """Draw a picture."""
        return [picture(1_000)]

    transport = Uncounted()
    session = Session(transport, model="claude-sonnet-4-5", budget=0.10, max_tokens=500)
    session.config.prices = {"claude-sonnet-4-5": {"input": 3, "output": 15}}
    assert session.ask("Draw something", tools=[draw]).text == "Noise."
    assert len(transport.requests) == 2


@pytest.mark.parametrize("value", [None, "many", [], float("nan")])
def test_a_count_that_is_not_a_number_is_an_estimate(value: Any):
    """An endpoint that counts wrongly can still answer."""
    transport = ScriptedTransport("Fine.")
    transport.count_tokens = lambda request: value  # type: ignore[method-assign]
    request = Request("m", (Message.of("user", "12345678"),), 100)
    assert count(request, Endpoint("scripted", "m", lambda: transport)) == Count(2, exact=False)


def test_a_plain_ask_builds_and_hashes_one_request(monkeypatch: pytest.MonkeyPatch):
    """Attachments can have megabytes, so nothing is built or hashed twice."""
    from nbchat.core import request as module

    built, hashed = [], []
    request_to, digest_of = fitting.request_to, module.digest_of
    monkeypatch.setattr("nbchat.engine.shortening.request_to", lambda *given: built.append(given) or request_to(*given))
    monkeypatch.setattr(module, "digest_of", lambda body: hashed.append(body) or digest_of(body))
    assert Session(ScriptedTransport("Fine.")).ask("Hi", budget=5).text == "Fine."
    assert (len(built), len(hashed)) == (1, 1)
