"""Files as content blocks: ``--attach PATH…`` and ``{{ pathlib.Path(…) }}``.

What a file is, its content says, not its suffix: images, PDF, notebooks and text go; other
binary files are refused with the reason and with what to do instead.
"""

from __future__ import annotations

import base64
import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbchat.content.blocks import Carried, carry_text, human_size, join, opening, tagged, without_keys
from nbchat.content.sizes import REQUEST_BYTES, check_limits, count_pages
from nbchat.context.cells import carry_cells, read_notebook
from nbchat.context.images import carry_image, media_type
from nbchat.core.errors import AttachmentError, nearest

__all__ = ["attach", "carry_bytes", "carry_file"]

#: Bytes of a text file: about a million tokens, the largest context window there is.
TEXT_BYTES = 4_000_000
#: Bytes of a table in text (CSV, TSV, JSON lines) that go whole; of a longer one, the first rows.
TABLE_BYTES = 80_000
#: Bytes of a PDF whose base64 still fits in a request.
PDF_BYTES = REQUEST_BYTES // 4 * 3
#: Bytes of an image file that Pillow is asked to make smaller.
IMAGE_BYTES = 100_000_000
#: Pages of a PDF: 600, and 100 for models with a context window of 200,000 tokens.
PDF_PAGES, PDF_PAGES_200K = 600, 100

_TABLES = frozenset((".csv", ".tsv", ".jsonl", ".ndjson"))
_PILLOW_SUFFIXES = frozenset(
    (".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".ico", ".ppm", ".pgm", ".tga", ".jp2")
)
_READ = "Load it in a cell and send what matters of it, for example {{ df }}."
# Signatures of files that people do try to attach, with what to do instead.
_BINARY = (
    (b"PAR1", "a Parquet file", _READ),
    (b"ARROW1", "an Arrow file", _READ),
    (b"\x89HDF", "an HDF5 file", _READ),
    (b"SQLite format 3", "an SQLite database", _READ),
    (b"\x93NUMPY", "a NumPy array", "Load it with numpy.load and write {{ array }}."),
    (b"\xd0\xcf\x11\xe0", "an old Office file", "Save it as PDF, CSV or text."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it and attach what it holds."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it and attach what it holds."),
    (b"\x7fELF", "a program", "Only text, images, PDF and notebooks can go along."),
    (b"MZ", "a program", "Only text, images, PDF and notebooks can go along."),
    (b"\x80\x04", "a pickle", "Load it in a cell and write {{ value }}."),
    (b"\x80\x05", "a pickle", "Load it in a cell and write {{ value }}."),
    (b"ID3", "a sound", "Only text, images, PDF and notebooks can go along."),
)
_OFFICE = {".xlsx": _READ, ".docx": "Save it as PDF or text.", ".pptx": "Save it as PDF."}


def attach(patterns: Sequence[str], *, root: Path) -> Carried:
    """The files of ``--attach``, each introduced by its name, in the order of the patterns.

    A pattern is a path or a glob (``*``, ``?``, ``[…]``, ``**``), relative to ``root``; ``~`` is the
    home directory. What one glob finds is sorted; a file found twice goes once. A file named by
    itself must be one that can go; of those that a glob finds, the others are left out with a note.

    Raises:
        AttachmentError: no such file (with the nearest), a directory, a file that is binary or
            too large, or more than a request holds.
    """
    parts: list[Carried] = []
    seen: set[Path] = set()
    for pattern in patterns:
        paths, globbed = _find(pattern, root)
        fresh = [path for path in paths if path.resolve() not in seen]
        seen.update(path.resolve() for path in fresh)
        refused = {path: why for path in fresh if globbed and (why := _refusal(path))}
        if fresh and len(refused) == len(fresh):
            raise AttachmentError(
                f"--attach {pattern}: nothing it finds can go along: {_listed(refused, root)}",
                "Only text, images, PDF and notebooks can; name one of those.",
            )
        for path in fresh:
            if path not in refused:
                parts += [carry_file(path, _name(path, root)), carry_text("\n")]
        if refused:
            parts.append(Carried(notes=(f"--attach {pattern}: left out {_listed(refused, root)}",)))
    carried = join(parts)
    check_limits(carried.content)
    return carried


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a file is that cannot go along, and what to do instead."""

    what: str
    hint: str


def _refusal(path: Path) -> Refusal | None:
    try:
        with path.open("rb") as file:
            kind = _kind(file.read(4_096), path.suffix.lower())
    except OSError as error:
        return Refusal(error.strerror or "not readable", "")
    return kind if isinstance(kind, Refusal) else None


def _listed(refused: Mapping[Path, Refusal], root: Path, most: int = 3) -> str:
    told = [f"{_name(path, root)} ({why.what})" for path, why in list(refused.items())[:most]]
    return ", ".join(told) + (f" and {len(refused) - most} more" if len(refused) > most else "")


def _find(pattern: str, root: Path) -> tuple[list[Path], bool]:
    """The files of a pattern, and whether it was a glob."""
    path = root / Path(pattern).expanduser()
    if path.is_dir():
        raise AttachmentError(
            f"--attach {pattern} is a directory",
            f"Name its files, or write {pattern.rstrip('/')}/* (or /**/*) for all in it.",
        )
    if path.exists():
        return [path], False
    if glob.has_magic(pattern):
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match for match in found if match.is_file()]
        if files:
            return files, True
    raise AttachmentError(f"--attach {pattern} matches no file in {_shown(root)}", _nearest_file(path, root))


def _shown(root: Path) -> str:
    return "the working directory" if root == Path.cwd() else root.name or str(root)


def _nearest_file(path: Path, root: Path) -> str:
    """The nearest file to one that is not there: in its directory, else anywhere near the root."""
    near = path.parent
    while glob.has_magic(str(near)) or not near.is_dir():
        if near == near.parent:
            return "Check the path."
        near = near.parent
    names: dict[str, str] = {}
    for found in _some(near.rglob("*") if near != Path(near.anchor) else near.glob("*"), 2_000):
        if found.is_file() and not found.name.startswith("."):
            names.setdefault(found.name, _name(found, root))
    told = nearest(path.name, names) or "Check the path; it is relative to the working directory."
    for name, shown in names.items():
        if told == nearest(name, [name]):
            return told.replace(name, shown)
    return told


def _some(paths: Iterable[Path], limit: int) -> Iterator[Path]:
    try:
        for _, path in zip(range(limit), paths, strict=False):
            yield path
    except OSError:
        return


def _name(path: Path, root: Path) -> str:
    """The name a file goes by: relative to the root or the home directory, else in full."""
    for base, mark in ((root, ""), (root.resolve(), ""), (Path.home(), "~/")):
        for known in (path, path.resolve()):
            if known.is_relative_to(base):
                return mark + known.relative_to(base).as_posix()
    return path.as_posix()


def carry_file(path: Path, name: str = "") -> Carried:
    """One file between tags that carry its name: as text, image, PDF document, or notebook cells.

    Raises:
        AttachmentError: not there, not readable, binary, too large, or a broken notebook.
    """
    name = name or path.as_posix()
    try:
        if path.is_dir():
            raise AttachmentError(f"{name} is a directory", "Name a file in it.")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(TABLE_BYTES)
            kind = _kind(head, path.suffix.lower())
            if isinstance(kind, Refusal):
                raise AttachmentError(f"{name} ({human_size(size)}) cannot go along: it is {kind.what}", kind.hint)
            _check_size(kind, size, name)
            data = head if kind == "table" and size > len(head) else head + file.read()
    except FileNotFoundError:
        raise AttachmentError(f"{name} is not there", _nearest_file(path.absolute(), Path.cwd())) from None
    except OSError as error:
        raise AttachmentError(f"{name} cannot be read: {error.strerror or error}", "Check its permissions.") from error
    return _carry(kind, data, name, size)


def carry_bytes(data: bytes, name: str) -> Carried | None:
    """An image or a PDF that is held as bytes; None for anything else."""
    if media_type(data) is not None:
        return carry_image(data, name)
    if _is_pdf(data):
        _check_size("pdf", len(data), name)
        return _carry_pdf(data, name)
    return None


def _kind(head: bytes, suffix: str) -> str | Refusal:
    """``image``, ``pdf``, ``notebook``, ``table`` or ``text``, of the first bytes."""
    if media_type(head) is not None:
        return "image"
    if _is_pdf(head):
        return "pdf"
    if _looks_like_text(head):
        return "notebook" if suffix == ".ipynb" else "table" if suffix in _TABLES else "text"
    if suffix in _PILLOW_SUFFIXES:
        return "image"
    for magic, what, hint in _BINARY:
        if head.startswith(magic):
            return Refusal(what, hint)
    if head.startswith(b"PK\x03\x04"):
        if suffix in _OFFICE:
            return Refusal(f"an Office file ({suffix})", _OFFICE[suffix])
        return Refusal("a zip archive", "Unpack it and attach what it holds.")
    return Refusal("a binary file", "Only text, images, PDF and notebooks can go along; load it and use {{ … }}.")


def _is_pdf(head: bytes) -> bool:
    # The header may stand anywhere in the first 1024 bytes (PDF 1.7, implementation note 13); a text
    # that speaks of it is no PDF.
    return head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not _looks_like_text(head[:1024]))


def _looks_like_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    # The control characters that no text file has: all but tab, line feed, form feed, return, escape.
    return not re.search(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]", head)


def _check_size(kind: str, size: int, name: str) -> None:
    limits = {
        "pdf": (PDF_BYTES, "Split it, or attach the pages you need."),
        "text": (TEXT_BYTES, "Send a part of it: read it in a cell, and write {{ text[:20000] }}."),
        "notebook": (REQUEST_BYTES, "Clear its outputs, or bring single cells with --cells."),
        "image": (IMAGE_BYTES, "Make it smaller: nothing above 1568 px on its long edge is seen."),
    }
    limit, hint = limits.get(kind, (size, ""))
    if size > limit:
        what = {"pdf": "a PDF", "text": "a text file", "notebook": "a notebook", "image": "an image"}[kind]
        raise AttachmentError(f"{name} is {human_size(size)}, and the limit for {what} is {human_size(limit)}", hint)


def _carry(kind: str, data: bytes, name: str, size: int) -> Carried:
    match kind:
        case "image":
            return _between("file", name, carry_image(data, name))
        case "pdf":
            return _between("file", name, _carry_pdf(data, name))
        case "notebook":
            return _between("notebook", name, carry_cells(read_notebook(data, name)))
    if kind == "table" and size > len(data):
        return _carry_head(data, name, size)
    text, notes = _decode(data, name)
    return carry_text(tagged("file", name, text), *notes)


def _between(tag: str, name: str, inner: Carried) -> Carried:
    return join([carry_text(opening(tag, name) + "\n"), inner, carry_text(f"\n</{tag}>")])


def _carry_head(data: bytes, name: str, size: int) -> Carried:
    """The whole lines at the beginning of a long table."""
    end = data.rfind(b"\n") + 1 or len(data)
    text, notes = _decode(data[:end], name)
    told = f"first {text.count(chr(10)):,} lines, {human_size(end)} of {human_size(size)}"
    body = f"{text}… [cut: {told}]"
    return carry_text(tagged("file", name, body), f"{name}: {told}", *notes)


def _decode(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text, notes = data.decode("utf-16", "replace"), ()
    else:
        try:
            text, notes = data.decode("utf-8-sig"), ()
        except UnicodeDecodeError:
            text, notes = data.decode("cp1252", "replace"), (f"{name}: not UTF-8, read as Windows-1252",)
    text, more = without_keys(text, name)
    return text, (*notes, *more)


def _carry_pdf(data: bytes, name: str) -> Carried:
    pages = count_pages(data)
    if re.search(rb"/Encrypt\s+\d+\s+\d+\s+R", data):
        raise AttachmentError(
            f"{name} is an encrypted PDF, which the API does not read", "Save it without a password, or as text."
        )
    if pages > PDF_PAGES:
        raise AttachmentError(
            f"{name} has {pages:,} pages, and the limit is {PDF_PAGES}", "Split it, or attach the pages you need."
        )
    notes = ()
    if pages > PDF_PAGES_200K:
        notes = (f"{name}: {pages} pages; models with a context window of 200,000 tokens take {PDF_PAGES_200K}",)
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(data).decode("ascii")}
    return Carried(({"type": "document", "source": source, "title": name},), notes)
