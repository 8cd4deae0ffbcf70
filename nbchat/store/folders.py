"""The user's folders for the ledger and the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["data_folder", "home_folder", "shown_path", "state_folder"]


def data_folder() -> Path:
    """Return the folder of the user's data.

    Raises:
        OSError: the system names no home folder.
    """
    import platformdirs

    return _checked(lambda: platformdirs.user_data_dir("nbchat", appauthor=False))


def state_folder() -> Path:
    """Return the folder of what programs remember between two runs.

    Raises:
        OSError: the system names no home folder.
    """
    import platformdirs

    return _checked(lambda: platformdirs.user_state_dir("nbchat", appauthor=False))


def home_folder() -> Path | None:
    """Return the home folder, or None where the user has none, as in some containers."""
    try:
        return Path.home()
    except (RuntimeError, KeyError):
        return None


def shown_path(path: Path) -> str:
    """Return a path for a message, which may end up in a saved notebook, with ``~`` for the home folder."""
    home = home_folder()
    if home is not None and path.is_relative_to(home):
        return f"~/{path.relative_to(home).as_posix()}"
    return path.name


def _checked(find: Callable[[], str]) -> Path:
    try:
        folder = Path(find())
    except Exception as error:  # platformdirs reads variables, files and the registry of Windows
        raise OSError(f"the user has no home folder: {error}") from error
    # Without a home folder, expanduser() leaves the "~", and a folder of that name would be created here.
    if not folder.is_absolute():
        raise OSError("the user has no home folder")
    return folder
