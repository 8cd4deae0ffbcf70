"""The turns that a saved notebook holds: each cell with ``%%claude`` or one ``%claude`` line, with its kept answer.

The notebook has the prompt as it was typed and the answer as text. It has neither the values of
``{{ … }}``, nor attachments, nor the results of tools. What is missing becomes a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbchat.context.cells import Cell, Output
from nbchat.core.call_text import CALL
from nbchat.core.conversation import Turn
from nbchat.core.errors import InputError, TemplateError
from nbchat.core.messages import Message
from nbchat.core.template import Expression, split
from nbchat.core.usage import Usage
from nbchat.engine.session import Session
from nbchat.notebook.going_on import GO_ON
from nbchat.notebook.line import parse
from nbchat.options import Options
from nbchat.view.html.render import without_marker

__all__ = ["SavedTurns", "turns_of"]

_MAGIC, _LINE_MAGIC = "%%claude", "%claude"
#: How the HTML of every answer begins (:func:`nbchat.view.html.render.wrap_answer`).
_ANSWER_HTML = '<div class="nbchat '
#: A call of a tool in the plain text of an answer, and the blank line after the call.
_CALLS = re.compile(rf"(?:^{CALL}.*(?:\n|\Z))+\n?", re.MULTILINE)


@dataclass(slots=True)
class SavedTurns:
    """The turns of a notebook by the names of their conversations, and a remark on each cell that lost something."""

    by_chat: dict[str, list[Turn]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def turns_of(cells: Iterable[Cell], session: Session) -> SavedTurns:
    """Return the turns of the cells, in the order of the notebook.

    Args:
        cells: the cells of the saved notebook.
        session: its settings say which conversation a cell without ``-c`` belongs to.
    """
    saved = SavedTurns()
    for place, cell in enumerate(cells, 1):
        if cell.kind == "code" and _line_and_body(cell.source) is not None:
            name = f"cell [{cell.number}]" if cell.number is not None else f"cell {place} of the notebook"
            _add(saved, cell, name, session)
    return saved


def _line_and_body(source: str) -> tuple[str, str] | None:
    """Return the line and the body of a ``%%claude`` cell or of a cell with one ``%claude`` line, else None."""
    first, _, body = source.strip().partition("\n")
    word, _, line = first.partition(" ")
    is_asking = word == _MAGIC or (word == _LINE_MAGIC and not body)
    return (line, body.strip("\n") if body.strip() else "") if is_asking else None


def _add(saved: SavedTurns, cell: Cell, name: str, session: Session) -> None:
    line, body = _line_and_body(cell.source) or ("", "")
    try:
        parsed = parse(line, has_body=bool(body))
        options = session.options({key: value for key, value in parsed.given.items() if key != "schema"})
    except InputError as error:
        saved.remarks.append(f"{name} was left out: {error.message}")
        return
    prompt = "\n\n".join(part for part in (parsed.prompt, body) if part)
    if options.once or options.dry_run:
        return
    if options.go_on:
        prompt = "\n\n".join(part for part in (GO_ON, prompt) if part)
    if not prompt:
        saved.remarks.append(f"{name} was left out: its prompt is not in the notebook")
        return
    answer = _answer(cell.outputs)
    if answer is None:
        saved.remarks.append(f"{name} was left out: it keeps no answer")
        return
    parts = _split(prompt)
    saved.remarks += [f"{name}: {lost}" for lost in _lost(parts, options)]
    if all(isinstance(part, str) for part in parts):
        prompt = "".join(map(str, parts))  # without the backslash of \{{
    text, status, about = answer
    turn = Turn(
        cell.id,
        (Message.of("user", prompt), Message.of("assistant", [{"type": "text", "text": text}])),
        model=str(about.get("model") or ""),
        status=status,
        tokens=Usage.from_api(about.get("usage")).total_tokens,
    )
    saved.by_chat.setdefault(options.chat, []).append(turn)


def _answer(outputs: Iterable[Output]) -> tuple[str, str, Mapping[str, Any]] | None:
    """Return the text, the status and the metadata of the answer that a cell keeps; None without text."""
    # What a tool printed is an output between two parts of the answer.
    parts = [output for output in outputs if output.kind == "display" and _is_answer(output)]
    texts, status = [], "complete"
    for part in parts:
        text, status = without_marker(str(part.bundle.get("text/plain") or ""))
        texts.append(_CALLS.sub("", text))
    texts = [text for text in texts if text.strip()]
    text = texts[0] if len(texts) == 1 else "\n\n".join(text.strip() for text in texts)
    about = parts[-1].metadata.get("nbchat") if parts else None
    if not isinstance(about, Mapping):  # VS Code can lose the metadata
        about = {}
    return (text, str(about.get("status") or status), about) if text else None


def _is_answer(output: Output) -> bool:
    return str(output.bundle.get("text/html") or "").startswith(_ANSWER_HTML)


def _split(prompt: str) -> list[str | Expression]:
    try:
        return split(prompt)
    except TemplateError:  # the cell was changed after it ran
        return [prompt]


def _lost(parts: list[str | Expression], options: Options) -> list[str]:
    """Return what the turn had and the notebook does not keep."""
    lost = []
    if not all(isinstance(part, str) for part in parts):
        lost.append("{{ … }} stays as typed, because the notebook does not keep the values")
    flags = [f"--{name}" for name in ("attach", "cells", "fix", "explain") if getattr(options, name)]
    if flags:
        lost.append(f"what {' and '.join(flags)} sent is not in the notebook")
    return lost
