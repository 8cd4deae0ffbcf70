"""The echo: a file that follows the answers."""

from __future__ import annotations

from pathlib import Path

from nbchat import Response
from nbchat.core.chunks import OutputText, Thinking
from nbchat.core.messages import Message
from nbchat.core.request import Request, Sink
from nbchat.view.echo import Echo


def test_the_text_is_in_the_file_as_it_arrives(tmp_path: Path):
    """Only text, also before the answer ends. A blank line follows each answer."""
    path = tmp_path / "echo.txt"
    for word in ("Hello", "Bye"):
        echo = Echo(str(path))
        assert isinstance(echo, Sink)
        echo.begin(Request("claude-x", (Message.of("user", "hi"),), 100))
        echo.feed(Thinking(0, "Well."))
        echo.feed(OutputText(0, word))
        assert path.read_text("utf-8").endswith(word)
        echo.feed(OutputText(0, " you"))
        echo.settle(Response(f"{word} you"))
    assert path.read_text("utf-8") == "Hello you\n\nBye you\n\n"


def test_no_escape_sequence_reaches_the_terminal_that_follows_the_file(tmp_path: Path):
    """A chunk may end inside an emoji, which stays whole."""
    path = tmp_path / "echo.txt"
    echo = Echo(str(path))
    for text in ("\x1b]0;title\x07a\u202eb", "👨", "\u200d👩\tc\r\nd"):
        echo.feed(OutputText(0, text))
    echo.settle(Response(""))
    assert path.read_text("utf-8") == "\ufffd]0;title\ufffda\ufffdb👨\u200d👩\tc\nd\n\n"
