"""A notebook's cells and their outputs as content blocks, from a kernel or from an .ipynb file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nbchat.content.blocks import (
    CHARACTERS_PER_TOKEN,
    Carried,
    carry_text,
    document,
    guarded,
    join,
    opening,
    without_keys,
)
from nbchat.content.bundles import image_of_bundle, joined_lines, text_of_bundle
from nbchat.content.cutting import shorten
from nbchat.content.images import image_or_reason
from nbchat.core.errors import AttachmentError

__all__ = ["Cell", "Output", "carry_cells", "cite_cells", "is_ignored", "read_notebook"]

#: Tokens of the text of one output.
OUTPUT_TOKENS = 2_000

_IGNORE = re.compile(r"#\s*nbchat:\s*ignore\b", re.IGNORECASE)
_CLAUDE = re.compile(r"%%claude\b")
#: The tags below, which no text inside them may close.
_TAGS = ("cell", "source", "output", "prompt", "answer")


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a cell. ``bundle`` is its mimebundle, in which a stream is ``text/plain``.

    ``metadata`` is empty for an output that comes from a kernel.
    """

    kind: Literal["stream", "display", "result", "error"]
    bundle: Mapping[str, Any]
    stream: str = "stdout"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it ran. ``number`` is its execution count, and ``id`` is the front end's, if it sent one."""

    number: int | None
    source: str
    outputs: tuple[Output, ...] = ()
    kind: Literal["code", "markdown", "raw"] = "code"
    id: str | None = None


def is_ignored(source: str) -> bool:
    """Return True if the cell begins with ``# nbchat: ignore``, or does so under its ``%%magic`` line."""
    lines = [line.strip() for line in source.strip().split("\n")[:2]]
    # A cell magic works only in the first line, so the comment may be in the second.
    return any(_IGNORE.match(line) for line in lines[: 2 if lines[0].startswith("%%") else 1])


def _is_claude(source: str) -> bool:
    """Return True if the cell is a ``%%claude`` cell."""
    return _CLAUDE.match(source.lstrip()) is not None


def carry_cells(cells: Iterable[Cell], *, budget: int = OUTPUT_TOKENS) -> Carried:
    """Return the cells as content, each between tags with its source and its outputs, images included.

    A ``%%claude`` cell is sent as its prompt and its answer, which is its last display. A cell that begins with
    ``# nbchat: ignore`` is left out, with a note.

    Args:
        cells: The cells, in the order in which they are sent. Their sources are never cut.
        budget: The most tokens of the text of each output.
    """
    parts: list[Carried] = []
    for cell in cells:
        name = f"cell {cell.number}" if cell.number is not None else "a cell"
        if is_ignored(cell.source):
            parts.append(Carried(notes=(f"{name}: left out, as it says # nbchat: ignore",)))
            continue
        attributes = {"number": str(cell.number)} if cell.number is not None else {}
        if cell.kind != "code":
            attributes["type"] = cell.kind
        parts.append(carry_text(opening("cell", "", **attributes) + "\n"))
        if cell.kind == "code" and _is_claude(cell.source):
            parts.extend(_prompt_and_answer(cell, name, budget))
        else:
            parts.append(_source(cell, name))
            for output in cell.outputs:
                parts.extend(_output(output, name, budget))
        parts.append(carry_text("</cell>\n"))
    return join(parts)


def cite_cells(carried: Carried, title: str) -> Carried:
    """Return the content of :func:`carry_cells` as one document, whose cells the model may cite."""
    parts: list[dict[str, Any]] = []
    for block in carried.content:
        if block["type"] != "text":
            parts.append(block)
            continue
        # A text inside a cell cannot close the cell's tag.
        cells = re.split(r"(?<=</cell>\n)", block["text"])
        parts += [{"type": "text", "text": text} for text in cells if text.strip()]
    if not parts:
        return carried
    return replace(carried, content=(document({"type": "content", "content": parts}, title),))


def _source(cell: Cell, name: str) -> Carried:
    if cell.kind == "code":
        return _tagged("source", cell.source, name)
    text, notes = without_keys(cell.source + "\n", name)
    return carry_text(guarded(text, *_TAGS), *notes)


def _prompt_and_answer(cell: Cell, name: str, budget: int) -> Iterable[Carried]:
    first_line, _, body = cell.source.lstrip().partition("\n")
    yield _tagged("prompt", body.strip() or _CLAUDE.sub("", first_line, count=1).strip(), name)
    # Tools print to streams. The answer is the last display.
    displays = [text_of_bundle(output.bundle) for output in cell.outputs if output.kind != "stream"]
    answer = displays[-1] if displays else ""
    if answer.strip():
        text, notes = shorten(answer, budget * CHARACTERS_PER_TOKEN, f"answer of {name}")
        yield join([_tagged("answer", text, name), Carried(notes=notes)])


def _output(output: Output, name: str, budget: int) -> Iterable[Carried]:
    data = image_of_bundle(output.bundle)
    if data is not None:
        yield join([carry_text("<output>\n"), image_or_reason(data, f"image of {name}"), carry_text("\n</output>\n")])
        return
    text = text_of_bundle(output.bundle)
    if not text.strip():
        return
    # Logs and tracebacks have their most important lines at the end.
    tail = output.kind in ("stream", "error")
    text, notes = shorten(text.rstrip("\n"), budget * CHARACTERS_PER_TOKEN, f"output of {name}", tail=tail)
    kind = {"error": "error", "stream": output.stream}.get(output.kind, "")
    yield join([_tagged("output", text, name, **({"type": kind} if kind else {})), Carried(notes=notes)])


def _tagged(tag: str, body: str, name: str, **attributes: str) -> Carried:
    text, notes = without_keys(body, name)
    return carry_text(f"{opening(tag, '', **attributes)}\n{guarded(text, *_TAGS)}\n</{tag}>\n", *notes)


def read_notebook(data: bytes, name: str) -> tuple[Cell, ...]:
    """Return the cells of an .ipynb file of format 4 or 3.

    https://nbformat.readthedocs.io/en/latest/format_description.html

    Args:
        data: The bytes of the file.
        name: The name of the file in an error message.

    Raises:
        AttachmentError: The file is not a notebook.
    """
    try:
        notebook = json.loads(data)
        sheets = notebook.get("worksheets")  # of format 3
        return tuple(map(_read_cell, sheets[0]["cells"] if sheets else notebook["cells"]))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise AttachmentError(
            f"{name} is not a valid notebook", "Open and save it in Jupyter, then try again."
        ) from error


def _read_cell(cell: Mapping[str, Any]) -> Cell:
    # Format 3 had other names: prompt_number, input, pyout, pyerr, stream.
    number = cell.get("execution_count", cell.get("prompt_number"))
    kind = cell.get("cell_type")
    return Cell(
        number=number if isinstance(number, int) else None,
        source=joined_lines(cell.get("source", cell.get("input"))),
        outputs=tuple(map(_read_output, cell.get("outputs") or ())),
        kind=kind if kind in ("markdown", "raw") else "code",
        id=cell.get("id"),
    )


def _read_output(output: Mapping[str, Any]) -> Output:
    match output.get("output_type"):
        case "stream":
            stream = output.get("name", output.get("stream", "stdout"))
            return Output("stream", {"text/plain": output.get("text", "")}, stream)
        case "error" | "pyerr":
            traceback = "\n".join(output.get("traceback") or ()) or f"{output.get('ename')}: {output.get('evalue')}"
            return Output("error", {"text/plain": traceback})
        case "execute_result" | "pyout":
            return Output("result", _read_bundle(output))
    metadata = output.get("metadata")
    return Output("display", _read_bundle(output), metadata=metadata if isinstance(metadata, Mapping) else {})


#: The keys of format 3, which had no mimebundle.
_FORMAT_3_KEYS = (
    ("text", "text/plain"),
    ("html", "text/html"),
    ("latex", "text/latex"),
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
)


def _read_bundle(output: Mapping[str, Any]) -> Mapping[str, Any]:
    bundle = output.get("data")
    if not isinstance(bundle, Mapping):
        bundle = {mime: output[key] for key, mime in _FORMAT_3_KEYS if key in output}
    return {mime: joined_lines(data) if mime.startswith(("image/", "text/")) else data for mime, data in bundle.items()}
