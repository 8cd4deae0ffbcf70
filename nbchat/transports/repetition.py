"""Stop an answer that repeats itself: small models repeat one sentence until the limit of the answer."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbchat.core.request import Request, Transport

__all__ = ["REPETITION", "Unrepeated", "repeated_characters", "until_repeated"]

#: The stop reason of an answer that was stopped here. The API has none for this.
REPETITION = "repetition"
#: The same characters this many times in a row are a repetition,
TIMES = 4
#: if they are this many characters together. A row of dashes under a heading is shorter.
MIN_CHARACTERS = 160
#: The longest text that is found if it repeats, in characters: about a paragraph.
MAX_PERIOD = 400
#: The end of the answer is looked at again after this many characters.
LOOK_EVERY_CHARACTERS = 32
#: The number of an item of a list, at the beginning of its line.
_ITEM_NUMBER = re.compile(r"^([ \t]*)\d{1,9}(?=[.)][ \t])", re.MULTILINE)


def repeated_characters(text: str) -> int:
    """Return how many characters at the end of ``text`` only repeat the characters before them; 0 if none do.

    >>> repeated_characters("A story:" + "The cat sat on the mat. " * 10)
    216
    >>> repeated_characters("a, b, a, b")
    0
    """
    tail = text[-TIMES * MAX_PERIOD :][::-1]
    longest = 0
    # lengths[p] is the length of the longest common beginning of the reversed text and of the reversed text
    # from p on (the Z function: https://cp-algorithms.com/string/z-function.html). A text whose last
    # p + lengths[p] characters have the period p ends with a repetition.
    lengths = [0] * len(tail)
    left = right = 0
    for period in range(1, len(tail)):
        length = min(right - period, lengths[period - left]) if period < right else 0
        while period + length < len(tail) and tail[length] == tail[period + length]:
            length += 1
        lengths[period] = length
        if period + length > right:
            left, right = period, period + length
        if period <= MAX_PERIOD and period + length >= max(MIN_CHARACTERS, TIMES * period):
            longest = max(longest, length)
    return longest


def until_repeated(events: Iterator[Mapping[str, Any]]) -> Generator[Mapping[str, Any], None, None]:
    """Yield the events of an answer, and end the answer once its text repeats itself.

    A list whose items differ only in their numbers repeats itself too.

    The last events then say that the answer ended with the stop reason ``repetition``. The number of its
    tokens is the number of deltas, because llama.cpp sends a delta for each token.
    """
    text, tokens, unseen = "", 0, 0
    for event in events:
        yield event
        delta = event.get("delta")
        if event.get("type") != "content_block_delta" or not isinstance(delta, Mapping):
            continue
        tokens += 1
        piece = delta.get("text")
        if not isinstance(piece, str):
            continue
        text, unseen = (text + piece)[-TIMES * MAX_PERIOD :], unseen + len(piece)
        if unseen < LOOK_EVERY_CHARACTERS:
            continue
        unseen = 0
        if repeated_characters(_ITEM_NUMBER.sub(r"\1", text)):
            yield {"type": "content_block_stop", "index": event.get("index")}
            ending = {"stop_reason": REPETITION, "stop_sequence": None}
            yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": tokens}}
            yield {"type": "message_stop"}
            return


class Unrepeated:
    """A transport that stops the answers of another transport once they repeat themselves.

    Args:
        transport: Who answers. Its other members, such as ``count_tokens``, are available here too.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.name = transport.name

    def __getattr__(self, member: str) -> Any:
        return getattr(self._transport, member)

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[Mapping[str, Any]]]:
        """Send the request and give the events of the answer. Leaving the context closes the connection."""
        with self._transport.stream(request) as events:
            # An answer in one piece is finished already, and stopping it would save nothing.
            yield until_repeated(iter(events)) if request.stream else iter(events)
