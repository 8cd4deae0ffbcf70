"""Python values as content blocks: what ``{{ expression }}`` and the result of a tool become.

A text is inserted as it is, and so is a number. Everything else is data between tags that carry
its name, or a block of its own. No library is imported to test a type, no value is changed, and
nothing is cut without a mark in the text and a note for the person who sends it.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import traceback
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from nbchat.content.blocks import (
    CHARACTERS_PER_TOKEN,
    Carried,
    carry_text,
    join,
    one_line,
    shorten,
    tagged,
    without_keys,
)
from nbchat.content.sizes import check_limits
from nbchat.context.cells import text_of_bundle
from nbchat.context.containers import INLINE, PLAIN, TIMES, container, dump, members
from nbchat.context.files import carry_bytes, carry_file
from nbchat.context.images import carry_picture, is_picture
from nbchat.context.tables import carry_table, is_table
from nbchat.core.errors import NbchatError, TemplateError
from nbchat.core.messages import OpaqueBlock, TextBlock
from nbchat.core.response import Response
from nbchat.core.template import Filled

__all__ = ["Carried", "blocks_of", "carry", "tool_content", "traceback_of"]

#: Tokens that one value may take.
VALUE_BUDGET = 4_000
#: Tokens that the result of a tool may take.
TOOL_BUDGET = 25_000
_REPRS = (("text/markdown", "_repr_markdown_"), ("text/html", "_repr_html_"), ("image/svg+xml", "_repr_svg_"))
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
#: The files that ipykernel and IPython make of cells, whose names hold process ids and hashes.
_CELL_FILE = re.compile(r'File "[^"\n]*(?:ipykernel_\d+[/\\]\d+\.py|<ipython-input-[^"\n]*>)"')
_CONTENT_TYPES = frozenset(("text", "image", "document", "search_result", "tool_reference"))


def carry(parts: Sequence[Any], *, budget: int = VALUE_BUDGET) -> Carried:
    """The parts of a filled template as content blocks, in the order they stood.

    A part is a text, a :class:`Filled` value, a value as such, or what is carried already.
    ``budget`` is the tokens that each value may take; text, files and images have limits of their own.

    Raises:
        TemplateError: a value that cannot be shown, with its name.
        AttachmentError: more than a request may hold.
    """
    done: dict[tuple[int, str], Carried] = {}
    pieces: list[Carried] = []
    for place, part in enumerate(parts, 1):
        if isinstance(part, str | Carried):
            pieces.append(carry_text(part) if isinstance(part, str) else part)
            continue
        value, name = (part.value, part.source) if isinstance(part, Filled) else (part, f"part {place}")
        # A value that stands twice is shown once: what it costs to draw or read it is paid once.
        key = (id(value), name)
        if key not in done:
            done[key] = blocks_of(value, name, budget)
        pieces.append(done[key])
    carried = join(pieces)
    check_limits(carried.content)
    return carried


def blocks_of(value: Any, name: str, budget: int = VALUE_BUDGET) -> Carried:
    """One value as content blocks, in about ``budget`` tokens; ``name`` is the expression it came of.

    Raises:
        TemplateError: the value's own code raised while it was shown.
        AttachmentError: a file or an image that cannot go along.
    """
    try:
        return _carry(value, name, max(budget, 0) * CHARACTERS_PER_TOKEN)
    except NbchatError:
        raise
    except Exception as error:
        raise TemplateError(
            f"{{{{ {one_line(name)} }}}} cannot be shown: its {_kind(value)} raised {type(error).__name__}: {error}",
            "Send a text of it instead, such as its parts or a summary; nothing was sent.",
        ) from error


def tool_content(value: Any, *, budget: int = TOOL_BUDGET) -> tuple[dict[str, Any], ...]:
    """What a tool gave, as the content blocks of its result.

    Content blocks go through as they are, and so do blocks of :mod:`nbchat.core.messages`;
    a text is cut at ``budget`` tokens with a mark; anything else is as in a prompt. Never empty.
    """
    blocks = _given_blocks(value)
    if blocks is not None:
        return blocks
    if isinstance(value, str):
        text, _ = shorten(value, budget * CHARACTERS_PER_TOKEN, "result", tail=True)
        carried = carry_text(text)
    else:
        carried = blocks_of(value, "result", budget)
    if any(block["type"] != "text" or block["text"].strip() for block in carried.content):
        return carried.content
    return ({"type": "text", "text": f"({'an empty' if value == '' else 'a blank'} text)"},)


def _given_blocks(value: Any) -> tuple[dict[str, Any], ...] | None:
    """Content blocks that a tool made itself, or None where the value is something else."""
    items = list(value) if isinstance(value, list | tuple) and value else [value]
    given = []
    for item in items:
        if isinstance(item, TextBlock | OpaqueBlock):
            item = item.to_dict()
        if not isinstance(item, dict) or item.get("type") not in _CONTENT_TYPES:
            return None
        held = {"text": "text", "tool_reference": "tool_name", "search_result": "content"}.get(item["type"], "source")
        if held not in item:
            return None
        given.append(dict(item))
    return tuple(given)


def _carry(value: Any, name: str, limit: int) -> Carried:
    if isinstance(value, Response):
        return carry_text(value.text)
    if isinstance(value, str):
        return carry_text(str.__str__(value))
    if value is None or isinstance(value, TIMES) or (isinstance(value, PLAIN) and not isinstance(value, enum.Enum)):
        return _inline(str(value), name, limit)
    if isinstance(value, bytes | bytearray | memoryview):
        return carry_bytes(bytes(value), name) or _shown(value, name, limit)
    if isinstance(value, Path):
        return carry_file(value)
    if isinstance(value, PurePath):
        return carry_text(str(value))
    if isinstance(value, BaseException):
        text, notes = shorten(traceback_of(value), _room(limit, "error", name), name, tail=True)
        return _tagged("error", name, text, notes)
    for carried in (_table, _array, carry_picture, _json):
        made = carried(value, name, limit)
        if made is not None:
            return made
    return _source(value, name, limit) or _shown(value, name, limit)


def _kind(value: Any) -> str:
    kind = type(value)
    own = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"


def _room(limit: int, tag: str, name: str, **attributes: str) -> int:
    return max(limit - len(tagged(tag, name, "", **attributes)), 0)


def _tagged(tag: str, name: str, text: str, notes: Iterable[str] = (), **attributes: str) -> Carried:
    text, keys = without_keys(text, name)
    return carry_text(tagged(tag, name, text, **attributes), *notes, *keys)


def _inline(text: str, name: str, limit: int, tag: str = "value", **attributes: str) -> Carried:
    """A short text where it stands, a longer one between tags."""
    if len(text) <= INLINE and "\n" not in text:
        text, keys = without_keys(text, name)
        return carry_text(text, *keys)
    text, notes = shorten(text, _room(limit, tag, name, **attributes), name)
    return _tagged(tag, name, text, notes, **attributes)


def _shown(value: Any, name: str, limit: int) -> Carried:
    """The repr; where that is no more than an address, the text that a notebook would show."""
    # An address says nothing, and would make of each run another request: no cassette, no cached prompt.
    text = _ADDRESS.sub("", repr(value))
    bundle: dict[str, Any] = {"text/plain": text}
    for mime, method in _REPRS:
        if text.startswith("<") and callable(getattr(type(value), method, None)):
            shown = getattr(value, method)()
            bundle[mime] = shown[0] if isinstance(shown, tuple) else shown
    return _inline(text_of_bundle(bundle), name, limit, type=_kind(value))


def traceback_of(error: BaseException, cells: Mapping[str, int] | None = None) -> str:
    """The traceback as Python prints it, without the frames of IPython that ran the cell.

    A cell goes by its execution count, as in ``In[3]``, where ``cells`` has it by file name.
    """
    told = traceback.TracebackException.from_exception(error)
    seen: list[traceback.TracebackException | None] = [told]
    while seen:
        part = seen.pop()
        if part is None:
            continue
        while part.stack and "IPython/core/" in part.stack[0].filename.replace("\\", "/"):
            del part.stack[0]
        seen += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    text = "".join(told.format()).rstrip("\n")
    for file, number in (cells or {}).items():
        text = text.replace(f'File "{file}"', f"In[{number}]")
    return _CELL_FILE.sub("a cell", text)


def _table(value: Any, name: str, limit: int) -> Carried | None:
    if not is_table(value):
        return None
    made = carry_table(value, name, limit)
    if made is None:
        shown = _shown(value, name, limit)
        made = Carried(shown.content, (*shown.notes, f"{one_line(name)}: sent as its repr (narwhals would sum it up)"))
    return made


def _array(value: Any, name: str, limit: int) -> Carried | None:
    """A numpy array: whole if it fits, else shape, dtype, range and the corners numpy shows."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic):
        return None
    if isinstance(value, numpy.generic):
        return _inline(str(value), name, limit)
    facts = [f"shape {value.shape}, dtype {value.dtype}"]
    if value.size and value.dtype.kind in "biuf":
        facts.append(_range(numpy, value))
    room = _room(limit, "array", name, type=_kind(value)) - sum(map(len, facts)) - 40
    whole = value.size * 2 <= room
    text = _printed(numpy, value, value.size + 1 if whole else 60)
    notes: tuple[str, ...] = ()
    if whole and len(text) > room:
        whole, text = False, _printed(numpy, value, 60)
    if not whole and value.size > 60:
        facts.append("values, first and last of each axis:")
        notes = (f"{one_line(name)}: shape, range and corners of {value.size:,} values",)
    text, more = shorten(text, room, name)
    return _tagged("array", name, "\n".join([*facts, text]), (*notes, *more), type=_kind(value))


def _printed(numpy: Any, value: Any, threshold: int) -> str:
    if isinstance(value, numpy.ma.MaskedArray):
        return str(value)  # array2string does not know the mask
    return numpy.array2string(value, separator=", ", threshold=threshold, max_line_width=120)


def _range(numpy: Any, value: Any) -> str:
    if isinstance(value, numpy.ma.MaskedArray):
        value = value.compressed()
    if value.dtype.kind == "b":
        return f"{int(value.sum()):,} of {value.size:,} true"
    missing = int(numpy.isnan(value).sum()) if value.dtype.kind == "f" else 0
    if missing == value.size:
        return f"all {missing:,} are nan"
    low, high, mean, spread = numpy.min, numpy.max, numpy.mean, numpy.std
    if missing:  # these copy the array, which a large one need not pay for
        low, high, mean, spread = numpy.nanmin, numpy.nanmax, numpy.nanmean, numpy.nanstd
    with numpy.errstate(all="ignore"):
        text = f"min {low(value):.6g}, max {high(value):.6g}, mean {mean(value):.6g}, std {spread(value):.6g}"
    return text + (f", {missing:,} nan" if missing else "")


def _source(value: Any, name: str, limit: int) -> Carried | None:
    """The source of a function or class of the user's: its repr says nothing."""
    if not isinstance(value, types.FunctionType | types.MethodType | type):
        return None
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError):
        return None
    text, notes = shorten(text.rstrip("\n"), _room(limit, "source", name), name)
    return _tagged("source", name, text, notes)


def _json(value: Any, name: str, limit: int) -> Carried | None:
    plain = container(value)
    if plain is None:
        return None
    if any(_is_rich(item) for _, item in members(plain, 50)):
        return _each(plain, name, limit)
    kind = {} if type(value) in (dict, list, tuple, set, frozenset) else {"type": _kind(value)}
    room = _room(limit, "json", name, **kind)
    try:
        text, notes = dump(plain, name, room)
    except (TypeError, ValueError, RecursionError):
        return None
    if len(text) <= INLINE and "\n" not in text and not kind:
        return _inline(text, name, limit)
    return _tagged("json", name, text, notes, **kind)


def _is_rich(value: Any) -> bool:
    """Whether a member is better shown by its own rule than as JSON."""
    numpy = sys.modules.get("numpy")
    array = numpy is not None and isinstance(value, numpy.ndarray) and value.size > 100
    return array or isinstance(value, BaseException) or is_table(value) or is_picture(value)


def _each(plain: Mapping[Any, Any] | Sequence[Any], name: str, limit: int) -> Carried:
    """Members one after the other, each by its own rule under its own name."""
    most = 20
    share = max(limit // max(1, min(len(plain), most)), 400) // CHARACTERS_PER_TOKEN
    parts: list[Carried] = []
    for key, item in members(plain, most):
        label = f"{name}[{key!r}]"
        parts += [carry_text(f"{label}: "), blocks_of(item, label, share), carry_text("\n")]
    if len(plain) > most:
        told = f"first {most} of {len(plain):,} items"
        parts.append(carry_text(f"… [cut: {told}]", f"{one_line(name)}: {told}"))
    return join(parts)
