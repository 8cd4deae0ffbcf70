"""Python values as content blocks, for ``{{ expression }}`` in a prompt and for the results of tools.

A text or a number is inserted as it is. All other values are data between tags with their name, or
blocks of their own. No library is imported to test a type. No value is changed. Nothing is cut without
a mark in the text and a note for the person who sends it.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from nbchat.content.blocks import CHARACTERS_PER_TOKEN, Carried, carry_text, join, one_line
from nbchat.content.bundles import text_of_bundle
from nbchat.content.cutting import cut_mark, shorten
from nbchat.content.sizes import check_limits
from nbchat.context.arrays import carry_array
from nbchat.context.containers import (
    INLINE_CHARACTERS,
    MAX_JSON_ARRAY_VALUES,
    PLAIN,
    SAMPLE_SIZE,
    TIMES,
    Container,
    container,
    dump,
    members,
)
from nbchat.context.files import carry_bytes, carry_file
from nbchat.context.framing import between_tags, class_name, inline, room_inside
from nbchat.context.images import carry_picture, is_picture
from nbchat.context.print_options import default_print_options
from nbchat.context.tables import carry_table, is_table
from nbchat.context.tracebacks import traceback_of
from nbchat.context.uploads import INLINE, Form
from nbchat.core.errors import NbchatError, TemplateError
from nbchat.core.response import Response
from nbchat.core.template import Filled

__all__ = ["blocks_of", "carry"]

#: Tokens of one value.
VALUE_TOKENS = 4_000
#: Members of a container that are sent each by its own rule, and the fewest characters of one.
MAX_RICH_MEMBERS = 20
MIN_MEMBER_CHARACTERS = 400

#: Scalars of pandas whose text says all that their repr does.
_PERIODS = frozenset({"Interval", "Period"})
_REPRS = (("text/markdown", "_repr_markdown_"), ("text/html", "_repr_html_"), ("image/svg+xml", "_repr_svg_"))
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")


def carry(parts: Sequence[Any], *, budget: int = VALUE_TOKENS, form: Form = INLINE) -> Carried:
    """Return the parts of a filled template as content blocks, in their order.

    Args:
        parts: Texts, :class:`Filled` values, other values, or content.
        budget: The most tokens of each value. Texts, files and images have limits of their own.
        form: How files are sent.

    Raises:
        TemplateError: A value cannot be shown. The message has its name.
        AttachmentError: The blocks do not fit in one request.
    """
    done: dict[tuple[int, str], Carried] = {}
    pieces: list[Carried] = []
    for place, part in enumerate(parts, 1):
        if isinstance(part, str | Carried):
            pieces.append(carry_text(part) if isinstance(part, str) else part)
            continue
        value, name = (part.value, part.source) if isinstance(part, Filled) else (part, f"part {place}")
        # A value that is in the prompt twice is drawn or read only once, which may be slow.
        key = (id(value), name)
        if key not in done:
            is_file = isinstance(value, Path)
            done[key] = carry_file(value, form=form) if is_file else blocks_of(value, name, budget)
        pieces.append(done[key])
    carried = join(pieces)
    check_limits(carried.content)
    return carried


def blocks_of(value: Any, name: str, budget: int = VALUE_TOKENS) -> Carried:
    """Return one value as content blocks.

    Args:
        value: The value.
        name: The expression whose value this is.
        budget: About the most tokens to use.

    Raises:
        TemplateError: The value's own code raised while the value was shown.
        AttachmentError: A file or an image cannot be attached.
    """
    try:
        return _carry(value, name, max(budget, 0) * CHARACTERS_PER_TOKEN)
    except NbchatError:
        raise
    except Exception as error:
        raise TemplateError(
            f"{{{{ {one_line(name)} }}}} cannot be shown: its {class_name(value)} "
            f"raised {type(error).__name__}: {error}",
            "Send a text instead, such as some parts of the value or a summary; nothing was sent.",
        ) from error


def _carry(value: Any, name: str, limit: int) -> Carried:
    carried = _carry_simple(value, name, limit)
    if carried is not None:
        return carried
    with default_print_options():
        # Containers are almost last: tables, arrays and figures may also be mappings or sequences.
        for carry_kind in (_table, carry_array, carry_picture, _json, _source):
            carried = carry_kind(value, name, limit)
            if carried is not None:
                return carried
        return _repr(value, name, limit)


def _carry_simple(value: Any, name: str, limit: int) -> Carried | None:
    """Return a value of the standard library that is not a container, or None."""
    if isinstance(value, Response):
        return carry_text(value.text)
    if isinstance(value, str):
        # A subclass of str, such as StrEnum, may have a __str__ of its own.
        return carry_text(str.__str__(value))
    if value is None or isinstance(value, TIMES) or (isinstance(value, PLAIN) and not isinstance(value, enum.Enum)):
        return inline(str(value), name, limit)
    if type(value).__name__ in _PERIODS and type(value).__module__.startswith("pandas."):
        return inline(str(value), name, limit)
    if isinstance(value, bytes | bytearray | memoryview):
        return carry_bytes(bytes(value), name) or _repr(value, name, limit)
    if isinstance(value, Path):
        return carry_file(value)
    if isinstance(value, PurePath):
        return carry_text(str(value))
    if isinstance(value, BaseException):
        text, notes = shorten(traceback_of(value), room_inside(limit, "error", name), name, tail=True)
        return between_tags("error", name, text, notes)
    return None


def _repr(value: Any, name: str, limit: int) -> Carried:
    """Return the repr, or the text that a notebook would show if the repr is only an address."""
    # An address differs in each run. It would make each run another request, which no cassette has.
    text = _ADDRESS.sub("", repr(value))
    bundle: dict[str, Any] = {"text/plain": text}
    for mime, method in _REPRS:
        if text.startswith("<") and callable(getattr(type(value), method, None)):
            shown = getattr(value, method)()
            bundle[mime] = shown[0] if isinstance(shown, tuple) else shown
    return inline(text_of_bundle(bundle), name, limit, type=class_name(value))


def _table(value: Any, name: str, limit: int) -> Carried | None:
    if not is_table(value):
        return None
    carried = carry_table(value, name, limit)
    if carried is None:
        carried = _repr(value, name, limit)
        note = f"{one_line(name)}: sent as its repr (install narwhals for a summary)"
        carried = Carried(carried.content, (*carried.notes, note))
    return carried


def _source(value: Any, name: str, limit: int) -> Carried | None:
    """Return the source of a function or class of the user's, whose repr has only its name."""
    if not isinstance(value, types.FunctionType | types.MethodType | type):
        return None
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError):
        return None
    text, notes = shorten(text.rstrip("\n"), room_inside(limit, "source", name), name)
    return between_tags("source", name, text, notes)


def _json(value: Any, name: str, limit: int) -> Carried | None:
    plain = container(value)
    if plain is None:
        return None
    if any(_is_rich(item) for _, item in members(plain, SAMPLE_SIZE)):
        return _each_member(plain, name, limit)
    kind = {} if type(value) in (dict, list, tuple, set, frozenset) else {"type": class_name(value)}
    try:
        text, notes = dump(plain, name, room_inside(limit, "json", name, **kind))
    except (TypeError, ValueError, RecursionError):
        return None  # a member has no JSON form, or contains itself
    if len(text) <= INLINE_CHARACTERS and "\n" not in text and not kind:
        return inline(text, name, limit)
    return between_tags("json", name, text, notes, **kind)


def _is_rich(value: Any) -> bool:
    """Return True if a member of a container is better sent by its own rule than as JSON."""
    numpy = sys.modules.get("numpy")
    is_array = numpy is not None and isinstance(value, numpy.ndarray) and value.size > MAX_JSON_ARRAY_VALUES
    return is_array or isinstance(value, BaseException) or is_table(value) or is_picture(value)


def _each_member(plain: Container, name: str, limit: int) -> Carried:
    """Return the members one after the other, each by its own rule under its own name."""
    share = limit // max(1, min(len(plain), MAX_RICH_MEMBERS))
    tokens = max(share, MIN_MEMBER_CHARACTERS) // CHARACTERS_PER_TOKEN
    parts: list[Carried] = []
    for key, item in members(plain, MAX_RICH_MEMBERS):
        label = f"{name}[{key!r}]"
        parts += [carry_text(f"{label}: "), blocks_of(item, label, tokens), carry_text("\n")]
    if len(plain) > MAX_RICH_MEMBERS:
        kept = f"first {MAX_RICH_MEMBERS} of {len(plain):,} items"
        parts.append(carry_text(cut_mark(kept), f"{one_line(name)}: {kept}"))
    return join(parts)
