"""The mimebundle of an answer. The live view makes its parts with the same functions.

An answer is a row of parts in the order in which they arrived: text, thinking, tool calls with their
results. Text blocks in a row are joined, because the API splits sentences into blocks at citations.
After the parts come the sources and, unless the answer is whole, a marker that says how it ended.
Nothing here differs from run to run: there is no time and no cost.

The law: all functions are pure, all HTML that they return is safe unless they say otherwise, and all
text that they take is treated as hostile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbchat.core.chunks import ToolDecision
from nbchat.core.fields import one_line
from nbchat.core.messages import Block, Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock, joined_text
from nbchat.core.misfit import Misfit
from nbchat.core.visible import visible
from nbchat.view.html.budget import Budget
from nbchat.view.html.calls import (
    arguments_html,
    call_head,
    details,
    json_text,
    outcome_html,
    plain_call,
    render_tool_call,
    result_html,
)
from nbchat.view.html.files import files_html, files_text
from nbchat.view.html.highlight import code_html
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.safe import clean, escape, neutral
from nbchat.view.html.sources import Sources
from nbchat.view.html.typed_table import render_value

if TYPE_CHECKING:
    from nbchat.core.response import Response

__all__ = [
    "arguments_html",
    "block_note",
    "call_head",
    "details",
    "footer_lines",
    "marker",
    "outcome_html",
    "render_blocks",
    "render_markdown",
    "render_marker",
    "render_opaque",
    "render_response",
    "render_thinking",
    "render_tool_call",
    "render_tool_result",
    "result_text",
    "tool_results",
    "without_marker",
    "wrap_answer",
]

#: A result of one line that is not longer is shown in the head of its fold.
SHORT_RESULT_CHARACTERS = 80


def render_response(response: Response, numbered_call: str = "") -> dict[str, str]:
    """Return the mimebundle of a finished answer: safe ``text/html``, and the Markdown as ``text/plain``.

    Args:
        response: the answer.
        numbered_call: the id of a call whose code has numbers before its lines, because the user is editing it.
    """
    results = tool_results(response.messages)
    blocks: Sequence[Block] = response.blocks
    misfit = isinstance(response.parsed, Misfit)
    table = "" if misfit else render_value(response.parsed)
    if table or misfit:  # the last text is the JSON of the typed answer
        last = max((at for at, block in enumerate(blocks) if block.type == "text"), default=0)
        blocks = [*blocks[:last], *map(_as_code, blocks[last : last + 1] if misfit else ()), *blocks[last + 1 :]]
    decisions = {decision.tool_use_id: decision for decision in response.decisions}
    # What was cut of the prompt is said first, because the answer has to be read with it in mind.
    inner = _notes(response) + render_blocks(blocks, results, decisions, numbered_call) + table
    inner += files_html(response.files) + render_marker(response) + _quiet_lines(footer_lines(response))
    # A terminal prints the plain text as it is, for example for `_claude` on a line of its own.
    return {"text/html": wrap_answer(inner), "text/plain": visible(_plain(response))}


def _as_code(block: Block) -> Block:
    """Return a text that is JSON as a block of code. Markdown would show the JSON as prose."""
    if not isinstance(block, TextBlock) or not block.text.lstrip().startswith(("{", "[")):
        return block
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", block.text))])
    return TextBlock(f"{fence}json\n{block.text}\n{fence}")


def wrap_answer(inner_html: str) -> str:
    """Return the HTML of an answer inside its outer element.

    The classes keep MathJax away from everything but formulas, so a dollar elsewhere stays money.
    """
    return f'<div class="nbchat mathjax_ignore tex2jax_ignore">\n{inner_html}</div>'


def render_blocks(
    blocks: Iterable[Block],
    results: Mapping[str, tuple[str, bool]],
    decisions: Mapping[str, ToolDecision] | None = None,
    numbered_call: str = "",
) -> str:
    """Return the HTML of the blocks of an answer, and of the sources that they cite.

    Args:
        blocks: the blocks.
        results: the results of their calls, from :func:`tool_results`.
        decisions: the decisions about the calls, by the ids of the calls.
        numbered_call: as in :func:`render_response`.
    """
    parts: list[str] = []
    sources = Sources()
    budget = Budget()
    run: MarkdownStream | None = None
    for block in blocks:
        if isinstance(block, TextBlock):
            run = run or MarkdownStream(budget)
            run.feed(block.text)
            sources.cite(run, block.citations)
            continue
        if run is not None:
            run.close()
            parts += run.finished
            run = None
        if isinstance(block, ToolUseBlock):
            decision = (decisions or {}).get(block.id)
            result, is_error = results.get(block.id, (None, False))
            is_numbered = block.id == numbered_call
            parts.append(render_tool_call(block, decision, result, is_error, budget, is_numbered=is_numbered))
        else:
            parts.append(_render_block(block, budget))
    if run is not None:
        run.close()
        parts += run.finished
    return "".join(parts) + sources.html()


def _render_block(block: ThinkingBlock | OpaqueBlock, budget: Budget) -> str:
    match block:
        case ThinkingBlock():
            return render_thinking(block.thinking, budget=budget)
        case OpaqueBlock():
            return render_opaque(block.data)


# --- parts --------------------------------------------------------------------------------------


def render_thinking(text: str, open: bool = False, budget: Budget | None = None) -> str:
    """Return the thinking in a fold, "" if the model showed none of it."""
    return details("Thinking", render_markdown(text, budget), open) if text.strip() else ""


def render_tool_result(result: str, is_error: bool = False) -> str:
    """Return a tool result in a fold of its own, for a result that is not shown with its call."""
    head, line = "Error" if is_error else "Result", result.strip()
    short = f"{head}: {line}" if line and "\n" not in line and len(line) <= SHORT_RESULT_CHARACTERS else head
    return details(short, clean(result_html(result)))


def render_opaque(data: Mapping[str, Any]) -> str:
    """Return the data of a block in a fold, for a type of block that nbchat does not know.

    The result of a call is "" here, because it is shown with its call, and so is encrypted thinking.
    """
    kind = str(data.get("type", ""))
    if kind == "tool_result" and "tool_use_id" not in data:
        return render_tool_result(result_text(data.get("content")), bool(data.get("is_error")))
    if kind == "redacted_thinking" or "tool_use_id" in data:
        return ""
    if note := block_note(data):
        summary = data.get("content")
        if isinstance(summary, str) and summary.strip():
            return details(note[1].upper() + note[2:-1], render_markdown(summary))
        return f"<p><em>{escape(note)}</em></p>\n"
    shown = {key: value for key, value in data.items() if key != "type"}
    return details(kind.replace("_", " ") or "block", clean(code_html(json_text(shown), "json"))) if shown else ""


def block_note(data: Mapping[str, Any]) -> str:
    """Return what a block of the service says about the answer, in square brackets; "" for any other block.

    >>> block_note({"type": "fallback", "from": {"model": "claude-fable-5-2"}, "to": {"model": "claude-opus-5-5"}})
    '[claude-fable-5-2 declined, and claude-opus-5-5 answers from here]'
    """
    match data:
        case {"type": "compaction", "content": str()}:
            return "[the service summarized the earlier turns]"
        case {"type": "compaction"}:
            return "[the service could not summarize the earlier turns]"
        case {"type": "fallback", "from": {"model": str(first)}, "to": {"model": str(second)}}:
            return f"[{one_line(first)} declined, and {one_line(second)} answers from here]"
    return ""


# --- results of tools ------------------------------------------------------------------------


def tool_results(messages: Iterable[Message]) -> dict[str, tuple[str, bool]]:
    """Return the results of the user's tools and of server tools, by the id of the call: (text, is it an error)."""
    results: dict[str, tuple[str, bool]] = {}
    for message in messages:
        for block in message.content:
            data = block.data if isinstance(block, OpaqueBlock) else {}
            if isinstance(data.get("tool_use_id"), str):
                content = data.get("content")
                failed = bool(data.get("is_error")) or (isinstance(content, Mapping) and "error_code" in content)
                results[data["tool_use_id"]] = (result_text(content), failed)
    return results


def result_text(content: object) -> str:
    """Return the content of a tool result as text: a web result as title and address, a file as its name."""
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
        # What the code of a newer web search prints goes to the model in encrypted form.
        stdout = "[output for the model only]" if part.get("encrypted_stdout") else part.get("stdout")
        texts = [stdout, part.get("stderr"), result_text(part.get("content") or None)]
        return "\n".join(str(text).rstrip("\n") for text in texts if text)
    if isinstance(references := part.get("tool_references"), list):
        return "\n".join(str(tool.get("tool_name")) for tool in references if isinstance(tool, Mapping)) or "no tool"
    if kind in ("image", "document"):
        return f"[{part.get('title') or kind}]"
    if isinstance(part.get("error_code"), str):
        return str(part["error_code"])
    return json_text(dict(part))


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
    "repetition": "stopped: the model repeated itself",
    "refusal": _STATUS_MARKERS["refused"],
}

#: What to do about an answer that was cut.
_GOES_ON = {"max_tokens": "%claude --continue goes on"}


def marker(status: str, stop_reason: str | None = None, stop_details: Mapping[str, Any] | None = None) -> str:
    """Return how an answer ended, in square brackets; "" if the answer is whole."""
    text = _STATUS_MARKERS.get(status, "")
    if status in ("complete", "incomplete"):
        text = _STOP_MARKERS.get(stop_reason or "", text)
    if not text:
        return ""
    explanation = (stop_details or {}).get("explanation") or _GOES_ON.get(stop_reason or "")
    return f"[{text}: {' '.join(str(explanation).split())}]" if explanation else f"[{text}]"


def without_marker(text: str) -> tuple[str, str]:
    """Return the plain text of an answer without the marker at its end, and the status that the marker stands for."""
    for status, words in (*_STATUS_MARKERS.items(), *(("incomplete", words) for words in _STOP_MARKERS.values())):
        start = max(text.rfind(f"[{words}]"), text.rfind(f"[{words}: "))
        if start >= 0 and text.endswith("]") and "\n" not in text[start:]:
            return text[:start].rstrip("\n"), status
    return text, "complete"


def render_marker(response: Response) -> str:
    """Return the marker as safe HTML, "" if the answer is whole."""
    text = marker(response.status, response.stop_reason, response.stop_details)
    return f"<p><em>{escape(text)}</em></p>\n" if text else ""


def footer_lines(response: Response) -> list[str]:
    """Return the lines below an answer: tokens and cost, and that the embedded model answered."""
    lines = [response.footer] if response.footer else []
    if response.endpoint == "local":
        lines.append(f"{response.model}, the embedded model: a toy that runs on this machine")
    return lines if response.blocks else []


def _notes(response: Response) -> str:
    """Return lines on what was cut of the prompt."""
    return _quiet_lines(map(one_line, response.notes)) if response.blocks else ""


def _quiet_lines(lines: Iterable[str]) -> str:
    # A line end in a note would end the HTML block where a notebook is exported as Markdown.
    return "".join(f"<p><small><em>[{escape(line)}]</em></small></p>\n" for line in lines)


def _plain(response: Response) -> str:
    ending = marker(response.status, response.stop_reason, response.stop_details)
    body = _with_calls(response)
    text = "\n\n".join(part for part in (body, neutral(files_text(response.files)), neutral(ending)) if part)
    # Models do write half a surrogate pair now and then, which cannot be sent or saved as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _with_calls(response: Response) -> str:
    """Return the text of an answer with its calls, each in its place."""
    if not any(isinstance(block, ToolUseBlock) for block in response.blocks):
        return response.text
    decisions = {decision.tool_use_id: decision for decision in response.decisions}
    parts: list[str] = []
    run: list[Block] = []
    for block in response.blocks:
        if isinstance(block, ToolUseBlock):
            parts += [joined_text(run), plain_call(block, decisions.get(block.id))]
            run = []
        else:
            run.append(block)
    return "\n\n".join(part for part in (*parts, joined_text(run)) if part.strip())
