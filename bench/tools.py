"""Measure the cost of a tool's arguments while they arrive: `python bench/tools.py [MB] [pieces]`.

The same bytes arrive once as the text of an answer and once as the input of a tool, in the same number
of pieces. They go through the parser, the accumulator and the sinks of a session. The input may cost
twice as much as the text: its JSON is parsed only once, when the block is complete, and until then the
view shows it as plain characters.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from nbchat import ScriptedTransport, Session
from nbchat.core.parser import ChatStreamParser
from nbchat.view.live.view import LiveView


def events(kind: str, text: str, pieces: int) -> Iterator[dict[str, Any]]:
    """Yield the events of an answer with one block: "text", or "tool" for the input of a tool."""
    start = {"type": "text", "text": ""} if kind == "text" else _tool()
    message = {"id": "m", "type": "message", "role": "assistant", "model": "bench", "usage": {"input_tokens": 1}}
    yield {"type": "message_start", "message": {**message, "content": []}}
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    size = -(-len(text) // pieces)
    for at in range(0, len(text), size):
        piece = text[at : at + size]
        delta = (
            {"type": "text_delta", "text": piece}
            if kind == "text"
            else {"type": "input_json_delta", "partial_json": piece}
        )
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    # The answer ends at its limit, so that no tool runs: only the arrival is measured.
    yield {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": pieces}}
    yield {"type": "message_stop"}


def _tool() -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "write", "input": {}}


def parsed(kind: str, text: str, pieces: int) -> None:
    """Feed the events to a parser."""
    parser = ChatStreamParser()
    for event in events(kind, text, pieces):
        parser.feed(event)
    parser.close()


def asked(kind: str, text: str, pieces: int) -> None:
    """Get the answer through a session without sinks."""
    session = Session(ScriptedTransport(list(events(kind, text, pieces))), once=True)
    session.config.ledger = session.config.journal = False
    session.ask("go")


def shown(kind: str, text: str, pieces: int) -> None:
    """Get the answer with a live view. The time of its drawing thread counts, the front end's does not."""
    session = Session(ScriptedTransport(list(events(kind, text, pieces))), once=True)
    session.config.ledger = session.config.journal = False
    with contextlib.redirect_stdout(io.StringIO()):  # without IPython the final output would be printed
        session.ask("go", sinks=[LiveView()])


def cpu(run: Callable[[str, str, int], None], kind: str, text: str, pieces: int, times: int = 5) -> float:
    """Return the processor time in seconds, the shortest of several runs."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        run(kind, text, pieces)
        spent.append(time.process_time() - began)
    return min(spent)


def main(size: float = 1.0, pieces: int = 10_000) -> int:
    """Print the table. Return 1 if a factor is above two, else 0."""
    code = "".join(f"value_{n} = compute({n}, 'some text')\n" for n in range(int(size * 1e6) // 40))
    text = json.dumps({"path": "big.py", "content": code})
    print(f"{len(text) / 1e6:.2f} MB in {pieces:,} pieces; processor time in ms")
    print(f"{'':<22}{'text':>10}{'tool':>10}{'factor':>9}")
    worst = 0.0
    for name, run in (("the parser alone", parsed), ("a session", asked), ("with the live view", shown)):
        as_text, as_tool = cpu(run, "text", text, pieces), cpu(run, "tool", text, pieces)
        worst = max(worst, as_tool / as_text)
        print(f"{name:<22}{as_text * 1e3:>10.1f}{as_tool * 1e3:>10.1f}{as_tool / as_text:>9.2f}")
    print("at most 2: " + ("yes" if worst <= 2 else "NO"))
    return int(worst > 2)


if __name__ == "__main__":
    sizes = [float(word) for word in sys.argv[1:3]]
    sys.exit(main(*sizes[:1], *(int(word) for word in sizes[1:])))
