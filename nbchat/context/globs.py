"""Expand a glob within the folder it begins in.

``glob.glob`` of the standard library follows links out of the folder without telling, and two folders with
links to each other keep it busy for hours. Otherwise this module matches as ``glob.glob`` does.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Matches", "expand"]


@dataclass(slots=True)
class Matches:
    """The matches of a glob.

    Attributes:
        folder: The folder that the glob began in: the part of the pattern before the first ``*``.
        paths: The matches that are inside the folder, sorted. Folders are not among them.
        outside: The matches that are links out of the folder, and links to folders that were not entered.
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)


def expand(pattern: Path, root: Path) -> Matches:
    """Return the matches of a pattern with ``*``, ``?``, ``[…]`` or ``**``.

    Args:
        pattern: The pattern, absolute or relative to ``root``.
        root: A folder. Its own path may contain ``*`` or ``[``.
    """
    anchor = Path(pattern.anchor) if pattern.is_absolute() else root
    parts = [part for part in pattern.parts if part != pattern.anchor]
    first = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    matches = Matches(anchor.joinpath(*parts[:first]))
    try:
        walk = _Walk(matches.folder)
    except OSError:
        return matches  # the folder does not exist
    paths = sorted(set(walk.match(matches.folder, tuple(parts[first:]))))
    matches.paths = [path for path in paths if walk.is_inside(path)]
    matches.outside = sorted({*walk.outside, *(path for path in paths if not walk.is_inside(path))})
    return matches


class _Walk:
    """A walk through a folder that does not leave the folder, and enters no folder twice for the same pattern.

    Attributes:
        outside: The links to folders outside, which were not entered.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve(strict=True)
        self._entered: set[tuple[Path, tuple[str, ...]]] = set()
        self.outside: set[Path] = set()

    def is_inside(self, path: Path) -> bool:
        """Return True if a path, with all links followed, is inside the folder. False for a link in a circle."""
        try:
            return path.resolve().is_relative_to(self._folder)
        except (OSError, RuntimeError):  # Python 3.11 and 3.12 raise RuntimeError for links in a circle
            return False

    def match(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Yield the files in ``folder`` that the parts of a pattern match, of each one the shortest path first."""
        part, rest = parts[0], parts[1:]
        if not self._enter(folder, parts):
            return
        if part == "**":
            # It stands for no folder at all, or for one more folder.
            yield from self.match(folder, rest or ("*",))
            for child in _children(folder):
                if not child.name.startswith(".") and os.path.isdir(child):
                    yield from self.match(child, parts)
            return
        for child in _children(folder) if glob.has_magic(part) else [folder / part]:
            if glob.has_magic(part) and not _fits(child.name, part):
                continue
            if rest:
                if os.path.isdir(child):
                    yield from self.match(child, rest)
            # lexists, because a link that leads nowhere is a match that the user should hear of.
            elif not os.path.isdir(child) and os.path.lexists(child):
                yield child

    def _enter(self, folder: Path, parts: tuple[str, ...]) -> bool:
        if not self.is_inside(folder):
            self.outside.add(folder)
            return False
        state = (folder.resolve(), parts)
        if state in self._entered:
            return False
        self._entered.add(state)
        return True


def _children(folder: Path) -> list[Path]:
    """Return what is in the folder, links last: a file keeps its own path, not the one through a link."""
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in sorted(entries, key=lambda one: (one.is_symlink(), one.name))]
    except OSError:
        return []  # not readable, as for glob.glob


def _fits(name: str, part: str) -> bool:
    # As for glob.glob and a shell, a * does not match the dot of a hidden file.
    return fnmatch.fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))
