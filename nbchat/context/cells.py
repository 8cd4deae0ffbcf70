"""A notebook's cells and their outputs as content blocks, whether of the kernel or of an .ipynb file."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nbchat.content.blocks import (
    CHARACTERS_PER_TOKEN,
    Carried,
    as_printed,
    carry_text,
    guarded,
    join,
    opening,
    shorten,
    without_keys,
)
from nbchat.context.images import carry_image, image_of_bundle
from nbchat.core.errors import AttachmentError

__all__ = ["Cell", "Output", "carry_cells", "is_claude", "is_ignored", "read_notebook", "text_of_bundle"]

#: Tokens that the text of one output may take.
OUTPUT_BUDGET = 2_000

_IGNORE = re.compile(r"#\s*nbchat:\s*ignore\b", re.IGNORECASE)
_CLAUDE = re.compile(r"%%claude\b")
#: What IPython prints of an object that has nothing to say in plain text.
_FACELESS = re.compile(r"<[\w.<>]+ (?:object|at 0x)[^>]*>|<Figure size [^>]*>|<Axes:[^>]*>")
_TAGS = ("cell", "source", "output", "prompt", "answer")


@dataclass(frozen=True, slots=True)
class Output:
    """One output: ``bundle`` maps media types to what was shown; a stream is ``text/plain``."""

    kind: Literal["stream", "display", "result", "error"]
    bundle: Mapping[str, Any]
    stream: str = "stdout"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it was run: ``number`` is its execution count, ``id`` the front end's, if it gave one."""

    number: int | None
    source: str
    outputs: tuple[Output, ...] = ()
    kind: Literal["code", "markdown", "raw"] = "code"
    id: str | None = None


def is_ignored(source: str) -> bool:
    """Whether the first line is ``# nbchat: ignore``; under a ``%%magic``, which must stand first, the second."""
    lines = [line.strip() for line in source.strip().split("\n")[:2]]
    return any(_IGNORE.match(line) for line in lines[: 2 if lines[0].startswith("%%") else 1])


def is_claude(source: str) -> bool:
    """Whether the cell asks Claude (``%%claude``)."""
    return _CLAUDE.match(source.lstrip()) is not None


def carry_cells(
    cells: Iterable[Cell], *, answers: Mapping[int, str] | None = None, budget: int = OUTPUT_BUDGET
) -> Carried:
    """The cells, each between tags with its source and its outputs, images included.

    Sources go whole; the text of an output in ``budget`` tokens. A ``%%claude`` cell goes as its
    prompt and its answer: ``answers`` has the answer's text by execution count, else it is what
    the cell shows. A cell that begins with ``# nbchat: ignore`` stays out, with a note.
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
        if cell.kind == "code" and is_claude(cell.source):
            parts.extend(_asked(cell, name, (answers or {}).get(cell.number or -1), budget))
        else:
            parts.append(_tag("source", cell.source, name) if cell.kind == "code" else _text(cell.source + "\n", name))
            for output in cell.outputs:
                parts.extend(_output(output, name, budget))
        parts.append(carry_text("</cell>\n"))
    return join(parts)


def _asked(cell: Cell, name: str, answer: str | None, budget: int) -> Iterable[Carried]:
    first, _, body = cell.source.lstrip().partition("\n")
    yield _tag("prompt", body.strip() or _CLAUDE.sub("", first, count=1).strip(), name)
    if answer is None:
        shown = [text_of_bundle(output.bundle) for output in cell.outputs if output.kind != "stream"]
        answer = shown[-1] if shown else ""
    if answer.strip():
        text, notes = shorten(answer, budget * CHARACTERS_PER_TOKEN, f"answer of {name}")
        yield join([_tag("answer", text, name), Carried(notes=notes)])


def _output(output: Output, name: str, budget: int) -> Iterable[Carried]:
    data = image_of_bundle(output.bundle)
    if data is not None:
        yield join([carry_text("<output>\n"), carry_image(data, f"image of {name}"), carry_text("\n</output>\n")])
        return
    text = text_of_bundle(output.bundle)
    if not text.strip():
        return
    ends = output.kind in ("stream", "error")  # logs and tracebacks say most at their end
    text, notes = shorten(text.rstrip("\n"), budget * CHARACTERS_PER_TOKEN, f"output of {name}", tail=ends)
    kind = {"error": "error", "stream": output.stream}.get(output.kind, "")
    yield join([_tag("output", text, name, **({"type": kind} if kind else {})), Carried(notes=notes)])


def _tag(tag: str, body: str, name: str, **attributes: str) -> Carried:
    text, notes = without_keys(body, name)
    return carry_text(f"{opening(tag, '', **attributes)}\n{guarded(text, *_TAGS)}\n</{tag}>\n", *notes)


def _text(body: str, name: str) -> Carried:
    text, notes = without_keys(body, name)
    return carry_text(guarded(text, *_TAGS), *notes)


def text_of_bundle(bundle: Mapping[str, Any]) -> str:
    """The text of a mimebundle that says most: plain text, unless that is only an object's address."""
    plain = as_printed(_joined(bundle.get("text/plain")))
    if plain.strip() and not _FACELESS.fullmatch(plain.strip()):
        return plain
    for mime in ("text/markdown", "text/latex", "text/html", "image/svg+xml"):
        text = _joined(bundle.get(mime))
        if text.strip():
            return plain_html(text) if mime == "text/html" else text
    others = [mime for mime in bundle if mime != "text/plain"]
    return plain or (f"[{', '.join(others)}]" if others else "")


def _joined(text: Any) -> str:
    """A field of an .ipynb is a text, or the list of its lines."""
    return "".join(text) if isinstance(text, list | tuple) else text if isinstance(text, str) else ""


def plain_html(text: str) -> str:
    """HTML without scripts, styles and tags, one line a row or paragraph."""
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", "", text, flags=re.IGNORECASE | re.DOTALL)
    text = re.sub(r"</t[dh]\s*>", "\t", text, flags=re.IGNORECASE)
    text = re.sub(r"<br\b[^>]*>|</(?:p|div|li|tr|h[1-6]|pre)\s*>", "\n", text, flags=re.IGNORECASE)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    lines = (" ".join(line.split(" ")).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def read_notebook(data: bytes, name: str) -> tuple[Cell, ...]:
    """The cells of an .ipynb file, of format 4 or 3.

    https://nbformat.readthedocs.io/en/latest/format_description.html

    Raises:
        AttachmentError: it is none, under ``name``.
    """
    try:
        notebook = json.loads(data)
        sheets = notebook.get("worksheets")
        return tuple(map(_read_cell, sheets[0]["cells"] if sheets else notebook["cells"]))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise AttachmentError(
            f"{name} is no notebook that can be read", "Open and save it in Jupyter, then try again."
        ) from error


def _read_cell(cell: Mapping[str, Any]) -> Cell:
    number = cell.get("execution_count", cell.get("prompt_number"))
    kind = cell.get("cell_type")
    return Cell(
        number=number if isinstance(number, int) else None,
        source=_joined(cell.get("source", cell.get("input"))),
        outputs=tuple(map(_read_output, cell.get("outputs") or ())),
        kind=kind if kind in ("markdown", "raw") else "code",
        id=cell.get("id"),
    )


def _read_output(output: Mapping[str, Any]) -> Output:
    match output.get("output_type"):
        case "stream":
            return Output(
                "stream", {"text/plain": output.get("text", "")}, output.get("name", output.get("stream", "stdout"))
            )
        case "error" | "pyerr":
            trace = "\n".join(output.get("traceback") or ()) or f"{output.get('ename')}: {output.get('evalue')}"
            return Output("error", {"text/plain": trace})
        case "execute_result" | "pyout":
            return Output("result", _bundle(output))
    return Output("display", _bundle(output))


# Format 3 had short keys beside the output's own.
_SHORT = (
    ("text", "text/plain"),
    ("html", "text/html"),
    ("latex", "text/latex"),
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
)


def _bundle(output: Mapping[str, Any]) -> Mapping[str, Any]:
    held = output.get("data")
    bundle = held if isinstance(held, Mapping) else {mime: output[key] for key, mime in _SHORT if key in output}
    return {mime: _joined(data) if mime.startswith(("image/", "text/")) else data for mime, data in bundle.items()}
