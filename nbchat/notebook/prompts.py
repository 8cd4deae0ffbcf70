"""The input transformer: keep IPython from reading prompts as Python or as calls for help."""

from __future__ import annotations

import re
import tokenize

__all__ = ["keep_prompts"]

_CELL = re.compile(r"%%claude(?!\S)")
_CELL_OF_ONE_LINE = re.compile(r"%%claude(?:[ \t].*)?")
#: The end of a line that goes on in the next one. Python allows no space after the backslash, but nobody sees one.
_CONTINUED = re.compile(r"[ \t]*\\[ \t]*\r?\n?\Z")
_PROMPT_LINE = re.compile(
    r"(?P<indent>[ \t]*)(?:(?P<target>[^\W\d][\w.]*(?:\[[^\]]*\])*)[ \t]*=[ \t]*)?%claude[ \t]+(?P<line>\S.*)"
)


def keep_prompts(lines: list[str]) -> list[str]:
    """Rewrite the lines of a cell that IPython would not pass to ``%claude`` or ``%%claude`` as they are.

    This is an input transformer of IPython's first stage:
    https://ipython.readthedocs.io/en/stable/config/inputtransforms.html
    """
    at = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines and _CELL.match(lines[at]):
        whole, taken = _joined(lines[at:])
        lines = [*lines[:at], whole, *lines[at + taken :]]
    text = "".join(lines).strip()
    # `%%claude what is x?` alone in a cell has no body, and IPython refuses to run a cell magic without one
    # (InteractiveShell.run_cell_magic). An empty second line is a body.
    if _CELL_OF_ONE_LINE.fullmatch(text):
        return [text + "\n", "\n"]
    # The body of another cell magic may be HTML or shell code, and a prompt may quote `%claude`.
    if text.startswith("%%") or "%claude" not in text:
        return lines
    kept: list[str] = []
    while lines:
        whole, taken = lines[0], 1
        if _PROMPT_LINE.fullmatch(whole.rstrip()):
            whole, taken = _joined(lines)
        match = _PROMPT_LINE.fullmatch(whole.rstrip())
        # IPython's HelpEnd takes every line that ends with ? for a call for help: `%claude what is x?` would show
        # the help of x. And `name = %claude …` would bind None, because the magic shows its answer and returns
        # nothing. A call with the prompt as a string is out of reach of both.
        rewritten = match and (match["target"] or match["line"].endswith("?") or taken > 1)
        if match and rewritten and _begins_statement(kept):
            prompt = match["line"]
            call = f"get_ipython().run_line_magic('claude', {prompt!r})"
            if match["target"]:
                call = f"{match['target']} = get_ipython().nbchat.answer({prompt!r})"
            # Empty lines keep the numbers of the lines below.
            kept += [f"{match['indent']}{call}\n", *["\n"] * (taken - 1)]
        else:
            kept += lines[:taken]
        lines = lines[taken:]
    return kept


# IPython skips a transformer with this attribute when it checks whether a cell is complete. Without it, a terminal
# would take the first line of a %%claude cell for the whole cell, because the line above gets a body here.
vars(keep_prompts)["has_side_effects"] = True


def _joined(lines: list[str]) -> tuple[str, int]:
    """Return the first line with the lines that continue it, and how many lines these are.

    A backslash ends a line that goes on, as in Python, unless no line follows.
    """
    parts, taken = [], 0
    for line in lines:
        taken += 1
        end = _CONTINUED.search(line)
        if end is None or taken == len(lines):
            parts.append(line)
            break
        parts.append(line[: end.start()])
    first, *rest = parts
    return " ".join([first, *(part.lstrip() for part in rest)]), taken


def _begins_statement(before: list[str]) -> bool:
    """Return True if the line after these begins a statement, and is not inside a string or brackets."""
    try:
        for _ in tokenize.generate_tokens(iter(before).__next__):
            pass
    except tokenize.TokenError as error:
        # Python 3.11 says "EOF in multi-line string" or "… statement" (brackets), 3.12 "unterminated triple-quoted
        # string literal". Other errors come from prompts in earlier lines, such as `%claude it's`, and end with
        # their line.
        return not re.search("multi-line|triple-quoted", str(error))
    except SyntaxError:
        pass
    return True
