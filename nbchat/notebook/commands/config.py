"""``%nbchat config``: every setting and its source."""

from __future__ import annotations

from nbchat.core.secrets import mask
from nbchat.notebook.commands.command import Call, command

__all__ = ["config"]


@command("config", "every setting and where it came from")
def config(call: Call) -> None:
    """Print a table of all settings with their values and their sources."""
    from nbchat.view.tables import text_table

    settings = call.session.config
    rows = [
        (name, repr(mask(value, name)), settings.sources.get(name, "default"))
        for name, value in sorted(settings.settings().items())
    ]
    print(text_table(("setting", "value", "from"), rows, width=call.width))
