"""``%nbchat cassette``: record answers in a file, and replay them."""

from __future__ import annotations

from nbchat.core.visible import visible
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command

__all__ = ["cassette"]


@command(
    "cassette",
    "record answers in FILE, and replay them",
    Argument("file", "FILE|off", suggested=("off",), completes="files"),
    Argument("mode", keyword="--mode", choices=("auto", "replay", "record", "off"), default="auto"),
    Argument("speed", keyword="--speed", choices=("fast", "real"), default="fast"),
)
def cassette(call: Call, file: str | None, mode: str, speed: str) -> None:
    """Use a cassette from now on; ``off`` ends that; without a file, print what the cassette did."""
    recording = call.session.recording
    if file == "off":
        recording.use_cassette(None)
        call.print("no cassette: every request is sent")
    elif file:
        recording.use_cassette(file, mode, speed)
    elif recording.cassette is None:
        call.print("no cassette is in use; %nbchat cassette FILE starts one")
    else:
        summary = recording.cassette.summary()
        done = ", ".join(f"{summary[name]} {name}" for name in ("replayed", "sent", "recorded", "missed"))
        call.print(
            f"{visible(summary['file'])}, mode {summary['mode']}, {summary['recordings']} recordings; here: {done}"
        )
