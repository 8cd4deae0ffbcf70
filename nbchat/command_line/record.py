"""``python -m nbchat record``: ask a notebook's questions again, record the answers, and save it as it replays.

The notebook is executed twice: against an endpoint, and then in replay. The saved outputs are those of the
replay, so a notebook that does not replay is never saved, and a strict comparison with a later replay finds no
difference. Nothing that changes from run to run is saved: no widget state, no times, no version of Python.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbchat.command_line.execution import answers_of, execute, read_notebook, usage_of
from nbchat.core.errors import OptionError
from nbchat.notebook.commands.cassette import cassette
from nbchat.notebook.commands.words import split_words

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["cassettes_of", "record"]

_CASSETTE_LINE = re.compile(r"^\s*%nbchat\s+cassette(?P<words>[ \t].*)?$", re.MULTILINE)


def record(path: Path, *, endpoint: str | None = None, missing: bool = False) -> str:
    """Record a notebook, save it with the outputs of a replay, and return a line that sums up the answers.

    If a cell fails, the notebook and its cassettes stay as they were.

    Args:
        path: the notebook.
        endpoint: the endpoint that answers; None for the one that ``%%claude`` would choose.
        missing: True to keep the recorded answers and ask only the other questions.

    Raises:
        OptionError: the file is not a notebook, or a library for executing notebooks is not installed.
        InputError: a cell failed.
    """
    page = read_notebook(path)
    asking = {"NBCHAT_CASSETTE_MODE": "auto" if missing else "record"}
    asking |= {"NBCHAT_ENDPOINT": endpoint} if endpoint else {}
    with _restored_on_failure(cassettes_of(page, path.parent), empty=not missing) as files:
        asked = execute(page, path, asking)
        with tempfile.TemporaryDirectory() as home:
            # A ledger and a journal of its own: `%nbchat usage` in the notebook must not show other costs of the day.
            own = dict.fromkeys(("XDG_DATA_HOME", "XDG_STATE_HOME"), home)
            replayed = execute(page, path, own | {"NBCHAT_CASSETTE_MODE": "replay", "ANTHROPIC_API_KEY": ""})
        _write(_tidy(replayed, page.metadata), path)
    names = ", ".join(file.name for file in files) or "no cassette"
    return f"{path}: {_summary(asked)}; {names}"


def cassettes_of(page: NotebookNode, folder: Path) -> list[Path]:
    """Return the files that the ``%nbchat cassette`` lines of a notebook name, each once."""
    files: dict[Path, None] = {}
    for cell in page.cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%"):
            for match in _CASSETTE_LINE.finditer(cell.source):
                name = _file_of(match["words"] or "")
                if name not in (None, "off"):
                    files[folder / str(name)] = None
    return list(files)


def _file_of(words: str) -> str | None:
    reading = cassette.reading()
    try:
        for word in split_words(words):
            reading.take(word)
        file = reading.values()["file"]
    except OptionError:
        return None  # the cell fails when it runs, and the error is reported then
    return file if isinstance(file, str) else None


def _tidy(page: NotebookNode, metadata: Mapping[str, Any]) -> NotebookNode:
    """Remove from an executed notebook all that changes from run to run; ``metadata`` is that of the file before."""
    kept = {name: metadata[name] for name in metadata if name != "widgets"}
    page.metadata.clear()
    page.metadata.update(kept)
    for cell in page.cells:
        cell.metadata.pop("execution", None)
    return page


def _write(page: NotebookNode, path: Path) -> None:
    import nbformat

    written = path.with_name(f".{path.name}.new")
    nbformat.write(page, written)
    written.replace(path)  # whole or not at all


@contextmanager
def _restored_on_failure(files: Iterable[Path], *, empty: bool) -> Iterator[list[Path]]:
    """Run a block in which the files may change; if the block fails, restore them.

    With ``empty``, the files do not exist when the block begins.
    """
    files = list(files)
    with tempfile.TemporaryDirectory() as folder:
        copies = {file: Path(folder) / str(number) for number, file in enumerate(files) if file.exists()}
        for file, copy in copies.items():
            shutil.copy2(file, copy)
            if empty:
                file.unlink()
        try:
            yield files
        except BaseException:  # an interrupt too
            for file in files:
                file.unlink(missing_ok=True)
            for file, copy in copies.items():
                shutil.move(copy, file)
            raise


def _summary(page: NotebookNode) -> str:
    answers = answers_of(page)
    return ", ".join(usage_of(answers)) if answers else "no answers"
