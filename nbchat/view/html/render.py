"""An answer to its mimebundle, part by part; the live view makes its parts with the same functions.

An answer is a row of parts in the order they came: runs of text (joined, as citations split
sentences into blocks), thinking, tool calls with their results. After them come the sources
that were cited and, unless the answer is whole, a marker that says what happened. Nothing here
changes from run to run: no time, no cost.

All functions are pure, all HTML they give is safe, and all text they take is taken for hostile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbchat.view.html.highlight import code_html
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.safe import clean, escape, link_html, neutral
from nbchat.view.html.typed_table import render_value

if TYPE_CHECKING:
    from nbchat.core.messages import Block, Message
    from nbchat.core.response import Response

__all__ = [
    "Sources",
    "arguments_html",
    "details",
    "escape",
    "marker",
    "outcome_html",
    "render_blocks",
    "render_citations",
    "render_markdown",
    "render_marker",
    "render_opaque",
    "render_response",
    "render_thinking",
    "render_tool_call",
    "render_tool_result",
    "result_text",
    "tool_results",
    "wrap_answer",
]

#: What a tool answered is shown up to here, in characters; ``response.messages`` has all of it.
MAX_RESULT_CHARACTERS = 20_000
#: A quotation in the list of sources, in characters.
MAX_QUOTE_CHARACTERS = 200
#: A result of one line and so many characters is said in the head of its part.
SHORT_RESULT_CHARACTERS = 80
#: Tools whose calls are shown open, as what they do is the user's own work.
CODE_TOOLS = frozenset({"run_python"})


def render_response(response: Response) -> dict[str, str]:
    """The mimebundle of a finished answer: safe ``text/html``, and ``text/plain``, the Markdown as it came."""
    results = tool_results(response.messages)
    blocks: Sequence[Block] = response.blocks
    table = render_value(response.parsed)
    if table:  # the last text is its JSON
        last = max((at for at, block in enumerate(blocks) if block.type == "text"), default=0)
        blocks = [*blocks[:last], *blocks[last + 1 :]]
    inner = render_blocks(blocks, results) + table + render_marker(response) + _footer(response)
    return {"text/html": wrap_answer(inner), "text/plain": _plain(response)}


def wrap_answer(inner_html: str) -> str:
    """The box of an answer. MathJax looks only at the formulas in it, so that a dollar elsewhere stays money."""
    return f'<div class="nbchat mathjax_ignore tex2jax_ignore">\n{inner_html}</div>'


def render_blocks(blocks: Iterable[Block], results: Mapping[str, tuple[str, bool]]) -> str:
    """The HTML of an answer's blocks, sources included. ``results`` are those of :func:`tool_results`."""
    parts: list[str] = []
    sources = Sources()
    run: MarkdownStream | None = None
    for block in blocks:
        if block.type == "text":
            run = run or MarkdownStream()
            run.feed(block.text)  # type: ignore[union-attr]
            sources.cite(run, block.citations)  # type: ignore[union-attr]
            continue
        if run is not None:
            run.close()
            parts += run.finished
            run = None
        parts.append(_render_block(block, results))
    if run is not None:
        run.close()
        parts += run.finished
    return "".join(parts) + sources.html()


def _render_block(block: Any, results: Mapping[str, tuple[str, bool]]) -> str:
    if block.type == "thinking":
        return render_thinking(block.thinking)
    if hasattr(block, "partial_json"):
        result, is_error = results.get(block.id, (None, False))
        return render_tool_call(block.name, block.arguments, result, is_error, open=block.name in CODE_TOOLS)
    return render_opaque(block.data)


# --- parts --------------------------------------------------------------------------------------


def details(summary: str, inner_html: str, open: bool = False) -> str:
    """A part that opens and closes. ``summary`` is text, one line; ``inner_html`` is safe HTML."""
    summary = " ".join(summary.split())
    tag = '<details open="">' if open else "<details>"
    return f"{tag}\n<summary>{escape(summary)}</summary>\n{inner_html}</details>\n"


def render_thinking(text: str, open: bool = False) -> str:
    """Thinking, collapsed; "" where the model showed none of it."""
    return details("Thinking", render_markdown(text), open) if text.strip() else ""


def render_tool_call(
    name: str, arguments: str, result: str | None = None, is_error: bool = False, open: bool = False
) -> str:
    """A tool call as a card, collapsed.

    ``arguments`` is JSON text, whole or as far as it arrived; a ``code`` or ``command`` in it is
    shown as the code it is. ``result`` is text, None while there is none.
    """
    inner = arguments_html(arguments)
    if result is not None:
        inner += outcome_html(result, is_error)
    return details(f"Tool call: {name}{' (failed)' if is_error else ''}", clean(inner), open)


def render_tool_result(result: str, is_error: bool = False) -> str:
    """What a tool answered, collapsed, where it does not stand in the card of its call."""
    head, line = "Error" if is_error else "Result", result.strip()
    short = f"{head}: {line}" if line and "\n" not in line and len(line) <= SHORT_RESULT_CHARACTERS else head
    return details(short, clean(_result_html(result)))


def render_opaque(data: Mapping[str, Any]) -> str:
    """A block of a kind that has no view of its own: its data, collapsed; "" for what is shown elsewhere or sealed."""
    kind = str(data.get("type", ""))
    if kind == "tool_result" and "tool_use_id" not in data:
        return render_tool_result(result_text(data.get("content")), bool(data.get("is_error")))
    if kind == "redacted_thinking" or "tool_use_id" in data:
        return ""
    shown = {key: value for key, value in data.items() if key != "type"}
    return details(kind.replace("_", " ") or "block", clean(code_html(_json(shown), "json"))) if shown else ""


_CODE_ARGUMENTS = {"code": "python", "command": "bash", "sql": "sql", "query_sql": "sql"}


def arguments_html(arguments: str) -> str:
    """The arguments of a call, JSON text: safe HTML once it is cleaned."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        return code_html(arguments, "json") if arguments.strip() else ""
    if not isinstance(given, dict):
        return code_html(_json(given), "json")
    blocks = [
        code_html(given.pop(key), language)
        for key, language in _CODE_ARGUMENTS.items()
        if isinstance(given.get(key), str)
    ]
    return "".join([code_html(_json(given), "json")] * bool(given) + blocks)


def outcome_html(result: str, is_error: bool) -> str:
    """What a tool answered, under a line that says what it is; to be cleaned like :func:`arguments_html`."""
    return f"<p>{'Error' if is_error else 'Result'}</p>\n{_result_html(result)}"


def _result_html(result: str) -> str:
    more = len(result) - MAX_RESULT_CHARACTERS
    shown = result[:MAX_RESULT_CHARACTERS] if more > 0 else result
    language = "json" if more <= 0 and shown[:1] in ("{", "[") and _is_json(shown) else ""
    note = f"<p><em>… {more:,} more characters</em></p>\n" if more > 0 else ""
    return code_html(shown.rstrip("\n"), language) + note


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


# --- what tools answered ------------------------------------------------------------------------


def tool_results(messages: Iterable[Message]) -> dict[str, tuple[str, bool]]:
    """Tool results by the id of their call, as (text, is it an error): ours and the server's."""
    found: dict[str, tuple[str, bool]] = {}
    for message in messages:
        for block in message.content:
            data = getattr(block, "data", None)
            if data and isinstance(data.get("tool_use_id"), str):
                content = data.get("content")
                failed = bool(data.get("is_error")) or (isinstance(content, Mapping) and "error_code" in content)
                found[data["tool_use_id"]] = (result_text(content), failed)
    return found


def result_text(content: object) -> str:
    """What a tool answered as text: text as it is, web results as title and address, files by name."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Mapping):
        return _result_part(content)
    if isinstance(content, Sequence):
        return "\n".join(result_text(part) for part in content)
    return str(content)


def _result_part(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part.get("url"), str):
        return f"{part.get('title') or ''}\n{part['url']}\n".lstrip()
    if "stdout" in part or "stderr" in part:
        said = [part.get("stdout"), part.get("stderr"), result_text(part.get("content") or None)]
        return "\n".join(str(text).rstrip("\n") for text in said if text)
    if kind in ("image", "document"):
        return f"[{part.get('title') or kind}]"
    if isinstance(part.get("error_code"), str):
        return str(part["error_code"])
    return _json(dict(part))


# --- sources ------------------------------------------------------------------------------------


class Sources:
    """The sources an answer cites, numbered in the order they came; one source has one number."""

    def __init__(self) -> None:
        self._items: dict[tuple[object, ...], str] = {}

    def cite(self, stream: MarkdownStream, citations: Iterable[Mapping[str, Any]]) -> None:
        """Mark the text so far with the numbers of its citations: to be called when a text block is whole."""
        seen = set()
        for citation in citations:
            number = self.add(citation)
            if number not in seen:
                stream.cite(number, _address(citation))
                seen.add(number)

    def add(self, citation: Mapping[str, Any]) -> int:
        """The number of a citation's source."""
        place = _place(citation)
        key = (citation.get("document_index"), _address(citation), _title(citation), place)
        if key not in self._items:
            quote = " ".join(str(citation.get("cited_text") or "").split())
            if len(quote) > MAX_QUOTE_CHARACTERS:
                quote = quote[: MAX_QUOTE_CHARACTERS - 1].rstrip() + "…"
            self._items[key] = (
                link_html(_address(citation), escape(_title(citation)))
                + (f", {escape(place)}" if place else "")
                + (f": “{escape(quote)}”" if quote else "")
            )
        return list(self._items).index(key) + 1

    def html(self) -> str:
        """The list of sources; "" without any."""
        if not self._items:
            return ""
        items = "".join(f"<li>{item}</li>\n" for item in self._items.values())
        return clean(f"<p><strong>Sources</strong></p>\n<ol>\n{items}</ol>\n")


def render_citations(citations: Iterable[Mapping[str, Any]]) -> str:
    """The list of sources of some citations, dicts as the Messages API gives them; "" without any."""
    sources = Sources()
    for citation in citations:
        sources.add(citation)
    return sources.html()


def _address(citation: Mapping[str, Any]) -> str | None:
    address = citation.get("url") or citation.get("source")
    return address if isinstance(address, str) else None


def _title(citation: Mapping[str, Any]) -> str:
    named = citation.get("title") or citation.get("document_title") or _address(citation)
    if named:
        return " ".join(str(named).split())
    index = citation.get("document_index", citation.get("search_result_index"))
    return f"Document {index + 1}" if isinstance(index, int) else "Source"


def _place(citation: Mapping[str, Any]) -> str:
    """Where in a document: page numbers count from 1, and the ends of ranges are exclusive."""
    first, end = citation.get("start_page_number"), citation.get("end_page_number")
    if not isinstance(first, int):
        return ""
    last = end - 1 if isinstance(end, int) else first
    return f"pp. {first}–{last}" if last > first else f"p. {first}"


# --- how it ended -------------------------------------------------------------------------------

_STATUS_MARKERS = {
    "interrupted": "interrupted",
    "incomplete": "the answer broke off",
    "refused": "the model refused to go on",
    "error": "ended by an error",
}
_STOP_MARKERS = {
    "max_tokens": "stopped at max_tokens",
    "model_context_window_exceeded": "stopped: the context window is full",
    "pause_turn": "paused by the server",
    "refusal": _STATUS_MARKERS["refused"],
}


def marker(status: str, stop_reason: str | None = None, stop_details: Mapping[str, Any] | None = None) -> str:
    """How an answer ended, in square brackets; "" when it is simply whole."""
    said = _STATUS_MARKERS.get(status, "")
    if status in ("complete", "incomplete"):
        said = _STOP_MARKERS.get(stop_reason or "", said)
    if not said:
        return ""
    explanation = (stop_details or {}).get("explanation")
    return f"[{said}: {' '.join(str(explanation).split())}]" if explanation else f"[{said}]"


def render_marker(response: Response) -> str:
    """The marker as HTML; "" when the answer is simply whole."""
    said = marker(response.status, response.stop_reason, response.stop_details)
    return f"<p><em>{escape(said)}</em></p>\n" if said else ""


def _footer(response: Response) -> str:
    """Quiet lines below an answer: what was cut of what went along, and that a toy answered."""
    lines = list(response.notes)
    if response.endpoint == "local":
        lines.append(f"{response.model}, the embedded model: a toy that runs on this machine")
    return "".join(f"<p><em>[{escape(line)}]</em></p>\n" for line in lines) if response.blocks else ""


def _plain(response: Response) -> str:
    said = marker(response.status, response.stop_reason, response.stop_details)
    text = response.text + ("\n\n" if response.text and said else "") + neutral(said)
    # Half a surrogate pair cannot be sent or saved.
    return text.encode("utf-8", "replace").decode("utf-8") if any("\ud800" <= c <= "\udfff" for c in text) else text
