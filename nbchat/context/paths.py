"""Paths and globs of files: their matches, the nearest match of a typo, and the names that people read."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbchat.core.errors import AttachmentError, nearest

__all__ = ["match_files", "nearest_file", "shown_name"]

#: Files to look at for the nearest name.
MAX_FILES = 2_000


def match_files(pattern: str, root: Path) -> tuple[list[Path], bool]:
    """Return the files of a pattern relative to ``root``, and True if the pattern is a glob.

    Raises:
        AttachmentError: No file matches, or the pattern is a directory.
    """
    path = root / Path(pattern).expanduser()
    if path.is_dir():
        raise AttachmentError(
            f"--attach {pattern} is a directory",
            f"Name its files, or write {pattern.rstrip('/')}/* (or /**/*) for all files in it.",
        )
    # A file whose name contains brackets is not a glob.
    if path.exists():
        return [path], False
    if glob.has_magic(pattern):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match for match in matches if match.is_file()]
        if files:
            return files, True
    raise AttachmentError(f"--attach {pattern} matches no file in {_root_name(root)}", nearest_file(path, root))


def _root_name(root: Path) -> str:
    return "the working directory" if root == Path.cwd() else root.name or str(root)


def nearest_file(path: Path, root: Path) -> str:
    """Return a hint with the nearest name to a missing file, of those in or under its directory."""
    directory = path.parent
    while glob.has_magic(str(directory)) or not directory.is_dir():
        if directory == directory.parent:
            return "Check the path."
        directory = directory.parent
    # Walking the whole disk for a typo in /data.csv would take minutes.
    is_disk = directory == Path(directory.anchor)
    names: dict[str, str] = {}
    for candidate in _first(directory.glob("*") if is_disk else directory.rglob("*"), MAX_FILES):
        if candidate.is_file() and not candidate.name.startswith("."):
            names.setdefault(candidate.name, shown_name(candidate, root))
    hint = nearest(path.name, names) or "Check the path; it is relative to the working directory."
    # The hint has the file's name. Write its whole path instead.
    for name, shown in names.items():
        if hint == nearest(name, [name]):
            return hint.replace(name, shown)
    return hint


def _first(paths: Iterable[Path], count: int) -> Iterator[Path]:
    try:
        for _, path in zip(range(count), paths, strict=False):
            yield path
    except OSError:
        return  # a directory that may not be read


def shown_name(path: Path, root: Path) -> str:
    """Return the path relative to the root or to the home directory, or else the whole path."""
    for parent, prefix in ((root, ""), (root.resolve(), ""), (Path.home(), "~/")):
        for form in (path, path.resolve()):
            if form.is_relative_to(parent):
                return prefix + form.relative_to(parent).as_posix()
    return path.as_posix()
