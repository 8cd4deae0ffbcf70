"""The user's decision about a call: what is shown before it, and who is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbchat.core.chunks import ToolDecision
from nbchat.core.messages import ToolUseBlock
from nbchat.engine.host import Host
from nbchat.engine.recording import Recording
from nbchat.engine.sinks import Sinks
from nbchat.engine.turn import Turn
from nbchat.tools.toolbox import Decided, Toolbox

__all__ = ["announce", "asks_again", "show_call"]


def asks_again(host: Host, recording: Recording) -> bool:
    """Return True if the user decides again about a call that ran when it was recorded.

    A cassette can come from somebody else, and a call runs code. So it decides only where nobody can be asked and
    the user said that everything comes from cassettes.
    """
    return host.can_ask or not recording.replays_only


def show_call(
    sinks: Sinks, host: Host, toolbox: Toolbox, call: ToolUseBlock, arguments: Mapping[str, Any], is_numbered: bool
) -> bool:
    """Show a call before the user is asked about it. Return False if no view can, or if nobody can be asked."""
    return not host.can_ask or sinks.show_call(call.id, toolbox.shown_name(call.name), arguments, is_numbered)


def announce(sinks: Sinks, host: Host, toolbox: Toolbox, turn: Turn, call: ToolUseBlock, decided: Decided) -> None:
    """Tell the sinks about a decision before the call runs, so that the decision is above what the call prints."""
    decision = decided.decision
    if decision is None:
        return
    if decision.notice and not sinks.shows_calls:
        host.say(decision.notice)
    changed = decision.arguments if decided.is_changed else None
    name = toolbox.shown_name(call.name)
    sinks.feed(turn.decide(ToolDecision(call.id, name, decision.allowed, decision.text, changed)))
