"""Paths and globs of files: their matches, the nearest match of a typo, and the names that people read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbchat.context.globs import expand
from nbchat.core.errors import AttachmentError, nearest

__all__ = ["Files", "match_files", "nearest_file", "shown_name"]

#: Files to look at for the nearest name.
MAX_FILES = 2_000


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a pattern.

    Attributes:
        paths: The files. In those of a glob are also pipes and devices, which cannot be attached.
        outside: The matches of a glob that are outside the folder that the glob began in.
        is_glob: False if the user named the file exactly.
    """

    paths: list[Path]
    outside: list[Path] = field(default_factory=list)
    is_glob: bool = False


def match_files(pattern: str, root: Path) -> Files:
    """Return the files of a pattern relative to ``root``.

    Raises:
        AttachmentError: No file matches, or the pattern is a directory or a broken link.
    """
    path = root / Path(pattern).expanduser()
    if os.path.isdir(path):
        raise AttachmentError(
            f"--attach {pattern} is a directory",
            f"Name its files, or write {pattern.rstrip('/')}/* (or /**/*) for all files in it.",
        )
    # A file whose name contains brackets is not a glob.
    if os.path.exists(path):
        return Files([path])
    if os.path.islink(path):
        raise AttachmentError(
            f"--attach {pattern} is a link that leads to no file", f"It leads to {os.readlink(path)}. Name a file."
        )
    # A pattern with a slash at its end matches folders only.
    if glob.has_magic(pattern) and not pattern.endswith(("/", os.sep)):
        matches = expand(Path(pattern).expanduser(), root)
        if matches.paths or matches.outside:
            return Files(matches.paths, matches.outside, is_glob=True)
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
        # Unlike Path.resolve, realpath also returns a path for links in a circle.
        for form in (path, Path(os.path.realpath(path))):
            if form.is_relative_to(parent):
                return prefix + form.relative_to(parent).as_posix()
    return path.as_posix()
