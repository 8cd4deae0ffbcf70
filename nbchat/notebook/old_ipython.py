"""Do with IPython 7 (Colab, Kaggle) what IPython 8 and 9 have functions for.

Each function takes the newer way if IPython has it, and asks for the function and not for a version.
"""

from __future__ import annotations

import io
import tokenize
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "add_matcher",
    "cell_numbers",
    "ends_with_semicolon",
    "keeps_outputs",
    "outputs_of",
    "prompt_writers",
    "remove_matcher",
]

_IDENTIFIER = "nbchat"
#: The attribute of a completer that has the function of ours, where there is no second interface of matchers.
_ATTRIBUTE = "_nbchat_complete"
#: The attribute of a history manager that has the displays of its cells, where IPython keeps none.
_OUTPUTS = "_nbchat_outputs"

#: Returns the text before the cursor that the suggestions replace, and the suggestions with their kinds. It takes
#: the whole cell, and the line and the column of the cursor, counted from 0.
Complete = Callable[[str, int, int], tuple[str, list[tuple[str, str]]] | None]


def add_matcher(completer: Any, complete: Complete) -> None:
    """Let a completer of IPython ask ``complete`` first. A second call changes nothing."""
    if _own_matchers(completer) or _ATTRIBUTE in vars(completer):
        return
    try:
        from IPython.core.completer import SimpleCompletion
    except ImportError:  # before 8.6
        _wrap(completer, complete)
        return

    def match(context: Any) -> Any:
        found = complete(context.full_text, context.cursor_line, context.cursor_position)
        if found is None:
            return {"completions": [], "suppress": False}
        # IPython would add magics and Python names to an empty list, so what is typed stands for it.
        completions = [SimpleCompletion(text, type=kind) for text, kind in found[1] or [(found[0], "")]]
        # `suppress` keeps IPython's file names and Python names out of the list of options.
        return {"completions": completions, "matched_fragment": found[0], "suppress": True, "ordered": True}

    # The second interface of matchers, which sees the whole cell and not only one line:
    # https://ipython.readthedocs.io/en/stable/api/generated/IPython.core.completer.html
    # IPython reads these attributes from the function itself.
    vars(match).update(matcher_api_version=2, matcher_priority=1_000, matcher_identifier=_IDENTIFIER)
    completer.custom_matchers.append(match)


def remove_matcher(completer: Any) -> None:
    """Remove what :func:`add_matcher` added."""
    for matcher in _own_matchers(completer):
        completer.custom_matchers.remove(matcher)
    if _ATTRIBUTE in vars(completer):
        vars(completer).pop("_complete", None)
        delattr(completer, _ATTRIBUTE)


def _own_matchers(completer: Any) -> list[Any]:
    # By the identifier, because each call of add_matcher makes a new function.
    return [
        matcher for matcher in completer.custom_matchers if getattr(matcher, "matcher_identifier", "") == _IDENTIFIER
    ]


def _wrap(completer: Any, complete: Complete) -> None:
    """Replace the method of an old completer that every way to complete a cell calls.

    A matcher of the first interface gets one word, and not the cell.
    """
    # traitlets owns the attributes of the class; this one is a plain method, which an instance may hide.
    original = completer._complete

    def complete_cell(
        *,
        cursor_line: int,
        cursor_pos: int,
        line_buffer: str | None = None,
        text: str | None = None,
        full_text: str | None = None,
    ) -> Any:
        cell = full_text if full_text is not None else line_buffer
        found = complete(cell, cursor_line, cursor_pos) if cell and cursor_pos is not None else None
        if found is None:
            return original(
                cursor_line=cursor_line,
                cursor_pos=cursor_pos,
                line_buffer=line_buffer,
                text=text,
                full_text=full_text,
            )
        texts = [word for word, _ in found[1]] or [found[0]]
        return found[0], texts, [_IDENTIFIER] * len(texts), ()

    setattr(completer, _ATTRIBUTE, complete)
    completer._complete = complete_cell


def ends_with_semicolon(hook: Any, code: str) -> bool:
    """Return True if the last statement of a cell ends with ``;``, which hides its value.

    Args:
        hook: the display hook of the shell.
        code: the code as IPython transformed it.
    """
    newer = getattr(hook, "semicolon_at_end_of_expression", None)
    if newer is not None:
        return bool(newer(code))
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    silent = (tokenize.ENDMARKER, tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)
    last = next((token for token in reversed(tokens) if token.type not in silent), None)
    return last is not None and last.string == ";"


def prompt_writers(hook: Any) -> tuple[str, ...]:
    """Return the methods by which a display hook writes ``Out[1]:`` as text, where no attribute tells that it does."""
    return () if hasattr(hook, "is_active") else ("write_output_prompt", "finish_displayhook")


def outputs_of(manager: Any) -> defaultdict[int, list[Any]]:
    """Return the outputs of each cell by its execution count, to read and to add displays to.

    IPython keeps them since 9.1. An older one has none, and then the dict is nbchat's own, without streams.
    """
    outputs: defaultdict[int, list[Any]] | None = getattr(manager, "outputs", None)
    if outputs is None:
        outputs = vars(manager).setdefault(_OUTPUTS, defaultdict(list))
    return outputs


def keeps_outputs(manager: Any) -> bool:
    """Return True if IPython itself keeps the outputs of cells, which it does since 9.1."""
    return hasattr(manager, "outputs")


def cell_numbers(shell: Any) -> Mapping[str, int]:
    """Return the execution counts by the file names under which IPython compiled the cells.

    IPython notes them since 8.0. In an older one a kernel names the file after the hash of the source, so the
    last cell with that source is meant.
    """
    compiler = shell.compile
    numbers: Mapping[str, int] | None = getattr(compiler, "_filename_map", None)
    if numbers is not None:
        return numbers
    manager = shell.history_manager
    cells = enumerate(zip(manager.input_hist_raw, manager.input_hist_parsed, strict=False))
    # The history cuts line ends off, and the names are hashes of the whole text.
    return {
        str(compiler.get_code_name(raw + end, f"{parsed}\n", number)): number
        for number, (raw, parsed) in cells
        if raw
        for end in ("", "\n")
    }
