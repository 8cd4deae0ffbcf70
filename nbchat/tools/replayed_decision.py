"""Read from the recorded result of a call how the user decided about the call when it was recorded.

A replay needs the same result, because the next request of the turn has it, and is found by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbchat.core.visible import visible_line
from nbchat.tools.approval import CHANGED, MAX_REASON_CHARACTERS, NOBODY, NOT_ALLOWED, THEY_SAY, ApprovedTool, Decision

__all__ = ["replayed_decision"]

#: What a cassette writes in the place of a home folder and of the middle of a long text.
_REPLACED = ("⟨home", "sha256:")


def replayed_decision(
    tool: ApprovedTool, arguments: Mapping[str, Any], result: str, interrupted: str, *, can_ask: bool
) -> Decision | None:
    """Return the decision that led to a recorded result, or None if the user has to be asked.

    A declined call replays everywhere. A call that ran is replayed only where nobody can be asked, because it runs
    again: on another machine, perhaps with other data.

    Args:
        tool: the tool.
        arguments: the arguments of the call.
        result: the first text of the recorded result.
        interrupted: the text of a call that the user interrupted.
        can_ask: True if somebody can be asked here.
    """
    declined = NOT_ALLOWED.format(tool.shown)
    if result == declined:
        return Decision(False, arguments, result, text="declined")
    if result.startswith(declined + THEY_SAY):
        remark = visible_line(result.removeprefix(declined + THEY_SAY), MAX_REASON_CHARACTERS)
        return Decision(False, arguments, result, text=f"declined: {remark}")
    if can_ask or result == interrupted or result.startswith(tool.shown + NOBODY):
        return None
    if not result.startswith(CHANGED):
        return Decision(True, arguments, text="allowed")
    try:
        changed = json.loads(result.removeprefix(CHANGED).removesuffix(")"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(changed, dict) or any(mark in result for mark in _REPLACED):
        return None
    return Decision(True, changed, result, text="allowed as edited")
