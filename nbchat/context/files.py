"""Files as content blocks, for ``--attach PATH…`` and ``{{ pathlib.Path(…) }}``.

The content of a file decides what the file is, not its suffix. Images, PDF, notebooks and text can be
attached. Other binary files are refused with the reason and with what to do instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from nbchat.content.blocks import Carried, carry_text, document, human_size, join, opening, tagged, without_keys
from nbchat.content.cutting import cut_mark
from nbchat.content.images import carry_image
from nbchat.content.media_types import (
    LONG_EDGE_PX,
    MAX_FILE_BYTES,
    MAX_PDF_BYTES,
    MAX_PDF_PAGES,
    MAX_PDF_PAGES_200K,
    MAX_REQUEST_BYTES,
    PDF_TYPE,
    image_type,
    is_pdf,
    looks_like_text,
    media_block,
)
from nbchat.content.sizes import TOKENS_PER_PAGE, check_limits, count_pages, estimate_tokens
from nbchat.context.cells import carry_cells, cite_cells, read_notebook
from nbchat.context.paths import match_files, nearest_file, shown_name
from nbchat.context.regular_files import NotRegularError, open_regular
from nbchat.context.secret_files import holds_private_key, is_secret
from nbchat.context.uploads import INLINE, Form, upload_block, upload_data, upload_image
from nbchat.core.errors import AttachmentError
from nbchat.core.fields import storable

__all__ = ["attach", "carry_bytes", "carry_file"]

Kind: TypeAlias = Literal["image", "pdf", "notebook", "table", "text"]

#: Largest text file: about a million tokens, the largest context window of any model.
MAX_TEXT_BYTES = 4_000_000
#: Largest table in text (CSV, TSV, JSON lines) that is sent whole. Of a larger one, the first rows are sent.
MAX_TABLE_BYTES = 80_000
#: Largest image file that Pillow is asked to make smaller.
MAX_IMAGE_FILE_BYTES = 100_000_000
#: Bytes to read to decide what a file is.
HEAD_BYTES = 4_096

_TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".jsonl", ".ndjson"))
_PILLOW_SUFFIXES = frozenset(
    (".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".ico", ".ppm", ".pgm", ".tga", ".jp2")
)
_PILLOW_SUFFIXES |= {".png", ".jpg", ".jpeg", ".gif", ".webp"}
#: Suffixes of files that are never text.
_NO_TEXT = _PILLOW_SUFFIXES | {".pdf", ".xlsx", ".docx", ".pptx", ".parquet", ".npy", ".npz", ".pkl", ".zip", ".gz"}
#: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_LOAD = "Load it in a cell and send the part that matters, for example {{ df }}."
_UNPACK = "Unpack it and attach the files in it."
_ONLY = "Only text, images, PDF and notebooks can be attached."
_UNPICKLE = "Load it in a cell and write {{ value }}."
# Signatures of binary files that people do try to attach, with what to do instead.
_SIGNATURES = (
    (b"PAR1", "a Parquet file", _LOAD),
    (b"ARROW1", "an Arrow file", _LOAD),
    (b"\x89HDF", "an HDF5 file", _LOAD),
    (b"SQLite format 3", "an SQLite database", _LOAD),
    (b"\x93NUMPY", "a NumPy array", "Load it with numpy.load and write {{ array }}."),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "Save it as PDF, CSV or text."),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"\x7fELF", "a program", _ONLY),
    (b"MZ", "a program", _ONLY),
    (b"\x80\x04", "a pickle", _UNPICKLE),
    (b"\x80\x05", "a pickle", _UNPICKLE),
    (b"ID3", "a sound", _ONLY),
)
_OFFICE = {".xlsx": _LOAD, ".docx": "Save it as PDF or text.", ".pptx": "Save it as PDF."}


def attach(patterns: Sequence[str], *, root: Path, form: Form = INLINE) -> Carried:
    """Return the files of ``--attach``, each between tags with its name, in the order of the patterns.

    A file that a glob matches is left out with a note if it cannot be attached, if it usually holds keys
    (``.env``, ``id_rsa``), or if a link leads out of the folder that the glob begins in. A file that is
    named without a glob is sent, wherever it is, and must be one that can be attached.

    Args:
        patterns: Paths or globs (``*``, ``?``, ``[…]``, ``**``). ``~`` is the home directory. The
            matches of a glob are sorted. A file that several patterns match is sent once.
        root: The directory to which relative patterns are relative.
        form: How the files are sent.

    Raises:
        AttachmentError: No file matches, a path is a directory, a file is binary or too large, or the
            files do not fit in one request.
    """
    parts: list[Carried] = []
    seen: set[Path] = set()
    for pattern in patterns:
        files = match_files(pattern, root)
        new_paths = [path for path in files.paths if path.resolve() not in seen]
        refused = {path: refusal for path in new_paths if files.is_glob and (refusal := _refusal(path, root, form))}
        refused |= {path: _OUTSIDE if os.path.exists(path) else _BROKEN_LINK for path in files.outside}
        sent: dict[Path, Carried] = {}
        for path in new_paths:
            if path in refused:
                continue
            try:
                sent[path] = carry_file(path, shown_name(path, root), form)
            except AttachmentError as error:
                if not files.is_glob:
                    raise
                refused[path] = _damaged(error, shown_name(path, root))
        if refused and not sent and len(files.paths) == len(new_paths):
            raise AttachmentError(
                f"--attach {pattern}: none of its files can be attached: {_list_refused(refused, root)}",
                _EXACTLY if any(not refusal.hint for refusal in refused.values()) else f"{_ONLY} Name one of those.",
            )
        # Not those that were left out: the user may also name one of them exactly.
        seen.update(path.resolve() for path in sent)
        for file in sent.values():
            parts += [file, carry_text("\n")]
        if refused:
            parts.append(Carried(notes=(f"--attach {pattern}: left out {_list_refused(refused, root)}",)))
    carried = join(parts)
    check_limits(carried.content)
    return carried


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that cannot be attached: what it is, and what to do instead."""

    what: str
    hint: str


_EXACTLY = "To send one of them, name it exactly, without * or ?."
_OUTSIDE = Refusal("outside the folder of the pattern", "")
_BROKEN_LINK = Refusal("a link that leads to no file", _ONLY)
_SECRET = Refusal("may hold keys", "")


def _refusal(path: Path, root: Path, form: Form) -> Refusal | None:
    """Return why a file that a glob matches is left out, or None."""
    # The name of the file may be harmless and a link to .env. Folders above the root say nothing about the file.
    for spelling, folder in ((path, root), (path.resolve(), root.resolve())):
        if is_secret(spelling.relative_to(folder) if spelling.is_relative_to(folder) else spelling):
            return _SECRET
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return _BROKEN_LINK
    except OSError as error:
        return Refusal(error.strerror or "not readable", _ONLY)
    if holds_private_key(head):
        return _SECRET
    kind = _kind(head, path.suffix.lower())
    return kind if isinstance(kind, Refusal) and not form.in_container else None


def _damaged(error: AttachmentError, name: str) -> Refusal:
    """Return why a file cannot be attached, without its name."""
    return Refusal(error.message.removeprefix(f"{name} ").removeprefix("is "), error.hint)


def _list_refused(refused: Mapping[Path, Refusal], root: Path, most: int = 3) -> str:
    names = [f"{shown_name(path, root)} ({refusal.what})" for path, refusal in list(refused.items())[:most]]
    return ", ".join(names) + (f" and {len(refused) - most} more" if len(refused) > most else "")


def carry_file(path: Path, name: str = "", form: Form = INLINE) -> Carried:
    """Return one file between tags with its name: as text, image, PDF document, or notebook cells.

    Args:
        path: The path of the file.
        name: The name in the tag and in messages. By default, the path.
        form: How the file is sent.

    Raises:
        AttachmentError: The file does not exist, cannot be read, is not a regular file, is binary, is too
            large, or is a broken notebook.
    """
    name = name or path.as_posix()
    try:
        if path.is_dir():
            raise AttachmentError(f"{name} is a directory", "Name a file in it.")
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(MAX_TABLE_BYTES)
            kind = _kind(head, path.suffix.lower())
            if form.in_container and (kind == "table" or isinstance(kind, Refusal)):
                return _between_tags("file", name, upload_data(file, head, path, name))
            if isinstance(kind, Refusal):
                hint = f"{kind.hint} Or add --code-execution, so that code can read it." if form.upload else kind.hint
                raise AttachmentError(f"{name} ({human_size(size)}) cannot be attached: it is {kind.what}", hint)
            if form.upload and kind == "table":
                kind = "text"  # an uploaded table is sent whole
            _check_size(kind, size, name, form)
            # A file may be longer than its size says: it grows, or a program makes it up, as those in /proc.
            # So at most one byte more than the limit is read.
            limit = MAX_TABLE_BYTES if kind == "table" else _limit(kind, form)
            data = head + file.read(limit + 1 - len(head))
            size = max(size, len(data))
            _check_size(kind, size, name, form)
            if kind == "table":
                data = data[:limit]  # a large table is cut anyway
    except NotRegularError as error:
        raise AttachmentError(
            f"{name} is {error.strerror} and not a file", "Save the data in a file, and attach that file."
        ) from None
    except FileNotFoundError:
        raise AttachmentError(f"{name} does not exist", nearest_file(path.absolute(), Path.cwd())) from None
    except OSError as error:
        raise AttachmentError(f"{name} cannot be read: {error.strerror or error}", "Check its permissions.") from error
    note = f"{name}: sent as text, which it is" if kind == "text" and path.suffix.lower() in _NO_TEXT else ""
    return join([_carry(kind, data, name, size, form), Carried(notes=(note,) if note else ())])


def carry_bytes(data: bytes, name: str) -> Carried | None:
    """Return an image or a PDF that is held as bytes, or None for any other bytes."""
    if image_type(data) is not None:
        return carry_image(data, name)
    if is_pdf(data):
        _check_size("pdf", len(data), name, INLINE)
        return _carry_pdf(data, name, INLINE)
    return None


def _kind(head: bytes, suffix: str) -> Kind | Refusal:
    """Return what a file is, by its first bytes and, where these do not tell, by its suffix."""
    if head.startswith(_LFS):
        return Refusal(
            "a Git LFS pointer, and not the file itself", "Get the file: run git lfs pull in the repository."
        )
    if suffix in _NO_TEXT and not head:
        return Refusal("empty", "Save it or download it again.")
    if suffix in _NO_TEXT and _HTML.match(head):
        return Refusal(f"an HTML page named {suffix}", "Download it again. To send the page itself, name it .html.")
    if image_type(head) is not None:
        return "image"
    if is_pdf(head):
        return "pdf"
    if looks_like_text(head):
        return "notebook" if suffix == ".ipynb" else "table" if suffix in _TABLE_SUFFIXES else "text"
    return "image" if suffix in _PILLOW_SUFFIXES else _refuse(head, suffix)


def _refuse(head: bytes, suffix: str) -> Refusal:
    for signature, what, hint in _SIGNATURES:
        if head.startswith(signature):
            return Refusal(what, hint)
    if head.startswith(b"PK\x03\x04"):  # a zip archive, which new Office files are too
        if suffix in _OFFICE:
            return Refusal(f"an Office file ({suffix})", _OFFICE[suffix])
        return Refusal("a zip archive", _UNPACK)
    return Refusal("a binary file", "Only text, images, PDF and notebooks can be attached; load it and use {{ … }}.")


_LIMITS: dict[Kind, tuple[str, int, str]] = {
    "pdf": ("a PDF", MAX_PDF_BYTES, "Split it, or attach the pages you need."),
    "text": ("a text file", MAX_TEXT_BYTES, "Send a part of it: read it in a cell, and write {{ text[:20000] }}."),
    "notebook": ("a notebook", MAX_REQUEST_BYTES, "Clear its outputs, or send single cells with --cells."),
    "image": (
        "an image",
        MAX_IMAGE_FILE_BYTES,
        f"Make it smaller: the service scales images to {LONG_EDGE_PX} px on their long edge anyway.",
    ),
}


def _limit(kind: Kind, form: Form) -> int:
    return MAX_FILE_BYTES if form.upload and kind == "pdf" else _LIMITS[kind][1]


def _check_size(kind: Kind, size: int, name: str, form: Form) -> None:
    if kind not in _LIMITS:
        return  # tables are cut to size
    what, _, hint = _LIMITS[kind]
    limit = _limit(kind, form)
    if size > limit:
        raise AttachmentError(f"{name} is {human_size(size)}, and the limit for {what} is {human_size(limit)}", hint)


def _carry(kind: Kind, data: bytes, name: str, size: int, form: Form) -> Carried:
    match kind:
        case "image":
            image = carry_image(data, name)
            return _between_tags("file", name, upload_image(image, name) if form.upload else image)
        case "pdf":
            # Anywhere: programs write bytes after the end of a PDF.
            if b"%%EOF" not in data:
                raise AttachmentError(f"{name} is a PDF without its end", "Download it or save it again.")
            return _between_tags("file", name, _carry_pdf(data, name, form))
        case "notebook":
            cells = carry_cells(read_notebook(data, name))
            return cite_cells(cells, name) if form.cite else _between_tags("notebook", name, cells)
    if kind == "table" and size > len(data):
        text, notes = _first_lines(data, name, size)
    else:
        text, notes = _decode(data, name)
    if text.strip() and form.upload:
        block = {"type": "document", "title": name}
        return upload_block(block, name, "text/plain", storable(text).encode(), estimate_tokens(text), *notes)
    if text.strip() and form.cite:
        return Carried((document({"type": "text", "media_type": "text/plain", "data": text}, name),), notes)
    return carry_text(tagged("file", name, text), *notes)


def _between_tags(tag: str, name: str, inner: Carried) -> Carried:
    return join([carry_text(opening(tag, name) + "\n"), inner, carry_text(f"\n</{tag}>")])


def _first_lines(data: bytes, name: str, size: int) -> tuple[str, tuple[str, ...]]:
    """Return the whole lines at the beginning of a large table."""
    end = data.rfind(b"\n") + 1 or len(data)
    text, notes = _decode(data[:end], name)
    kept = f"first {text.count(chr(10)):,} lines, {human_size(end)} of {human_size(size)}"
    return text + cut_mark(kept), (f"{name}: {kept}", *notes)


def _decode(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            # Excel on Windows saves CSV files in this encoding.
            text, notes = data.decode("cp1252", "replace"), (f"{name}: not UTF-8, read as Windows-1252",)
    text, key_notes = without_keys(text, name)
    return text, (*notes, *key_notes)


def _carry_pdf(data: bytes, name: str, form: Form) -> Carried:
    if re.search(rb"/Encrypt\s*(?:\d+\s+\d+\s+R|<<)", data):
        raise AttachmentError(
            f"{name} is an encrypted PDF, which the API cannot read", "Save it without a password, or as text."
        )
    pages = count_pages(data[:MAX_PDF_BYTES])  # of a larger one, at least those are counted
    if pages > MAX_PDF_PAGES:
        raise AttachmentError(
            f"{name} has {pages:,} pages, and the limit is {MAX_PDF_PAGES}", "Split it, or attach the pages you need."
        )
    notes: tuple[str, ...] = ()
    if pages > MAX_PDF_PAGES_200K:
        notes = (f"{name}: {pages} pages; models with a context window of 200,000 tokens take {MAX_PDF_PAGES_200K}",)
    if form.upload:
        titled = {"type": "document", "title": name}
        return upload_block(titled, name, PDF_TYPE, data, pages * TOKENS_PER_PAGE, *notes)
    block = media_block(PDF_TYPE, data)
    assert block is not None
    return Carried(({**block, "title": name},), notes)
