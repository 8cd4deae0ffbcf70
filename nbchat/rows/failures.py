"""Which failures stop a run: those that every row would hit."""

from __future__ import annotations

from dataclasses import dataclass

from nbchat.core.errors import AnswerError, AuthError, BadRequestError, BudgetError, CassetteMiss, NbchatError

__all__ = ["Failures"]

#: After so many failures of one kind in a row, every row would fail.
SAME_FAILURES = 20
#: After so many refusals of the request itself in a row, every request would be refused.
SAME_REFUSALS = 3


@dataclass(slots=True)
class Failures:
    """The failures since the last answer: what happens again and again would happen to every row."""

    kind: str = ""
    count: int = 0

    def take(self, failure: NbchatError) -> bool:
        """Take a failure. Return True if the run should stop because of it."""
        if isinstance(failure, AuthError | BudgetError | CassetteMiss):
            return True
        status = getattr(failure, "status", None)
        kind = f"{type(failure).__name__} {getattr(failure, 'type', '')} {status}"
        if isinstance(failure, BadRequestError) and status == 400:
            kind += failure.message  # of two texts that are too long, each has a length of its own
        self.count = self.count + 1 if kind == self.kind else 1
        self.kind = kind
        if isinstance(failure, BadRequestError):
            return status == 404 or self.count >= SAME_REFUSALS
        if isinstance(failure, AnswerError):
            return False  # the model answered, and was paid: another row may fit
        return self.count >= SAME_FAILURES
