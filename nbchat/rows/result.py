"""A result: what is kept of the answer to one request of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbchat.core.chunks import ResponseChunk
from nbchat.core.errors import AnswerError, InputError, NbchatError, StreamError
from nbchat.core.fields import Fields
from nbchat.core.response import Response
from nbchat.core.usage import Usage

__all__ = ["Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one request, or the failure of it.

    A result does not depend on the rows that ask for it: equal rows share one. The typed answer is read
    from ``text`` again when a frame is made, so a change of a validator in the user's code takes effect.

    Attributes:
        digest: the digest of the request, in hexadecimal.
        text: the text of the answer; "" after a failure without an answer.
        usage: the tokens of all requests that were sent for the row.
        cost: their cost in US dollars; None if a part of it is unknown.
        model: the model that answered.
        error_type: the name of the error's class, such as ``RefusedError``; "" if the row succeeded.
        error: the error's two lines (what happened, what to do), joined by a line end.
        message: the last answer as the API would send it in one piece, so that a cassette can be written
            from it; None if nothing arrived.
        replayed: True if a cassette or the store gave the answer, so that nothing was sent.

    >>> result = Result("ab12", "positive", Usage(input_tokens=9, output_tokens=2), 0.0001)
    >>> result.ok, Result.from_dict(result.to_dict()) == result
    (True, True)
    """

    digest: str
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    model: str = ""
    error_type: str = ""
    error: str = ""
    message: Mapping[str, Any] | None = field(default=None, compare=False)
    replayed: bool = field(default=False, compare=False)

    @property
    def ok(self) -> bool:
        """Return True if the row has its answer."""
        return not self.error_type

    @classmethod
    def of(cls, digest: str, response: Response, failure: NbchatError | None = None) -> Result:
        """Return the result of a turn that ended with a Response.

        Args:
            digest: the digest of the row's request.
            response: the Response; an answer that was cut counts as a failure.
            failure: the error that ended the turn, or None.
        """
        if failure is None and response.status != "complete":
            failure = AnswerError(
                f"the answer is {response.status}: it ended with {response.stop_reason}",
                "Raise max_tokens and run it again, or ask for less.",
            )
        return cls(
            digest=digest,
            text=response.text,
            usage=response.usage,
            cost=response.cost,
            model=response.model,
            error_type="" if failure is None else type(failure).__name__,
            error="" if failure is None else _lines(failure),
            message=_message_of(response),
            replayed=response.replayed,
        )

    @classmethod
    def failed(cls, digest: str, failure: NbchatError) -> Result:
        """Return the result of a row whose request was not sent, or got no answer."""
        response = None
        if isinstance(failure, StreamError):
            response = failure.partial
        elif isinstance(failure, AnswerError):
            response = failure.response
        if isinstance(response, Response):
            return cls.of(digest, response, failure)
        return cls(digest, error_type=type(failure).__name__, error=_lines(failure))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values, as a line of a shard has them."""
        fields: dict[str, Any] = {"digest": self.digest, "text": self.text, "usage": self.usage.to_dict()}
        fields |= {"cost": self.cost, "model": self.model}
        if self.error_type:
            fields |= {"error_type": self.error_type, "error": self.error}
        if self.message is not None:
            fields["message"] = dict(self.message)
        return fields

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Result:
        """Return the result that :meth:`to_dict` wrote.

        Raises:
            InputError: a field is missing or has another type.
        """
        fields = Fields(kept)
        return cls(
            digest=fields.name("digest"),
            text=fields.text("text", ""),
            usage=Usage.of_fields(fields.fields("usage")),
            cost=fields.optional_amount("cost"),
            model=fields.name("model", ""),
            error_type=fields.name("error_type", ""),
            error=fields.text("error", ""),
            message=fields.optional_mapping("message"),
        )

    def to_json(self) -> str:
        """Return :meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Result:
        """Return the result of a line of JSON.

        Raises:
            InputError: the line is not JSON, or a field has another type.
        """
        try:
            return cls.from_dict(json.loads(line))
        except (ValueError, RecursionError):
            raise InputError("a stored result is not JSON") from None


def _lines(failure: NbchatError) -> str:
    return f"{failure.message}\n{failure.hint}" if failure.hint else failure.message


def _message_of(response: Response) -> dict[str, Any] | None:
    """Return the last answer of a Response as a message of the API, or None if nothing arrived."""
    last = next((chunk for chunk in reversed(response.chunks) if isinstance(chunk, ResponseChunk)), None)
    if last is None:
        return None
    message = {key: value for key, value in last.message.items() if not key.startswith("_")}
    tiers = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    usage = {name: getattr(last.usage, name) for name in tiers}
    # The price depends on these, also when a cassette replays the answer.
    words = ("service_tier", "speed", "inference_geo")
    usage |= {name: word for name in words if (word := getattr(last.usage, name)) is not None}
    return {**message, "content": [block.to_dict() for block in last.blocks], "usage": usage}
