"""Notebooks recorded anew: executed once against an endpoint, then replayed, and saved as replayed.

The outputs that are saved are those of a replay, so the notebook is proved to replay before it is
written, and a strict comparison with a later replay finds the same. Nothing that changes from run
to run stays in the file: no widget state, no times, no version of Python.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbchat.core.errors import InputError, OptionError

__all__ = ["cassettes_of", "execute", "record", "tidy"]

_CASSETTE = re.compile(r"^\s*%nbchat\s+cassette\s+(?P<file>\"[^\"]+\"|'[^']+'|[^\s-]\S*)", re.MULTILINE)


def record(path: Path, *, endpoint: str | None = None, missing: bool = False) -> str:
    """Record one notebook anew and save it with the outputs of a replay; gives a line about it.

    Its cassettes begin anew; with ``missing`` what they hold is kept, and only the rest is asked.
    If a cell fails, they and the notebook are as they were.

    Raises:
        OptionError: it is no notebook, or a package for executing one is missing.
        InputError: a cell failed.
    """
    page = _read(path)
    asking = {"NBCHAT_CASSETTE_MODE": "auto" if missing else "record"}
    asking |= {"NBCHAT_ENDPOINT": endpoint} if endpoint else {}
    with _restored(cassettes_of(page, path.parent), anew=not missing) as found:
        asked = execute(page, path, asking)
        with tempfile.TemporaryDirectory() as home:
            # Its own ledger and journal: what else was spent that day is none of the page's business.
            own = dict.fromkeys(("XDG_DATA_HOME", "XDG_STATE_HOME"), home)
            replayed = execute(page, path, own | {"NBCHAT_CASSETTE_MODE": "replay", "ANTHROPIC_API_KEY": ""})
        _write(tidy(replayed, page.metadata), path)
    about = ", ".join(file.name for file in found) or "no cassette"
    return f"{path}: {_answers(asked)}; {about}"


def cassettes_of(page: Any, folder: Path) -> list[Path]:
    """The files that the ``%nbchat cassette`` lines of a notebook name."""
    found: dict[Path, None] = {}
    for cell in page.cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%"):
            for match in _CASSETTE.finditer(cell.source):
                name = match["file"].strip("\"'")
                if name != "off":
                    found[folder / name] = None
    return list(found)


def execute(page: Any, path: Path, environment: Mapping[str, str]) -> Any:
    """A copy of the notebook, executed in a fresh kernel beside it, with these variables.

    Raises:
        OptionError: a package for executing notebooks is missing.
        InputError: a cell failed, or the kernel died.
    """
    import copy
    import os

    try:
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        raise OptionError(
            f"executing notebooks needs {error.name}, which is not installed",
            "Install it: pip install nbclient nbformat ipykernel",
        ) from None
    page = copy.deepcopy(page)
    client = NotebookClient(
        page,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        timeout=600,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(env={**os.environ, **environment})
    except CellExecutionError as error:
        raise InputError(
            f"a cell of {path} failed: {error.ename}: {error.evalue}",
            "Nothing was changed. python -m nbchat doctor says which endpoint answers.",
        ) from None
    except DeadKernelError:
        raise InputError(f"the kernel died while {path} ran", "Nothing was changed; run it again.") from None
    return page


def tidy(page: Any, metadata: Any) -> Any:
    """The notebook with nothing in it that changes from run to run; ``metadata`` is what it had before."""
    kept = {name: metadata[name] for name in metadata if name != "widgets"}
    page.metadata.clear()
    page.metadata.update(kept)
    for cell in page.cells:
        cell.metadata.pop("execution", None)
    return page


def _read(path: Path) -> Any:
    try:
        import nbformat
    except ImportError:
        raise OptionError("recording needs nbformat, which is not installed", "pip install nbformat nbclient") from None
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise OptionError(f"the notebook {path} cannot be read ({error})", "Give the path of one.") from None


def _write(page: Any, path: Path) -> None:
    import nbformat

    written = path.with_name(f".{path.name}.new")
    nbformat.write(page, written)
    written.replace(path)


@contextmanager
def _restored(files: Iterable[Path], *, anew: bool) -> Iterator[list[Path]]:
    """The files, gone if they are to begin anew; if the block fails they are as they were."""
    files = list(files)
    with tempfile.TemporaryDirectory() as folder:
        aside = {file: Path(folder) / str(number) for number, file in enumerate(files) if file.exists()}
        for file, place in aside.items():
            shutil.copy2(file, place)
            if anew:
                file.unlink()
        try:
            yield files
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            for file, place in aside.items():
                shutil.move(place, file)
            raise


def _answers(page: Any) -> str:
    """How many answers, by which models, at what cost: from the metadata of their outputs."""
    about = [
        output.metadata["nbchat"]
        for cell in page.cells
        for output in cell.get("outputs", ())
        if "nbchat" in output.get("metadata", {})
    ]
    if not about:
        return "no answers"
    models = ", ".join(sorted({str(answer.get("model")) for answer in about}))
    costs = [answer.get("cost") for answer in about]
    cost = f"${sum(costs):.4f}" if None not in costs else "cost unknown"
    return f"{len(about)} answer{'s' * (len(about) != 1)} of {models}, {cost}"
