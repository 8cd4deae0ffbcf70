"""The environment of all tests, and of the doctests in nbchat and in the README."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from nbchat.core import secrets

# Keep compiled modules, also for the kernels and the processes that tests start: each would compile nbchat again,
# and each process of pytest would rewrite all assertions.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts `make test` in the background lets its processes ignore ■.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count()


# One fixture for all of this: pytest needs longer to call a fixture than the fixture takes.
@pytest.fixture(autouse=True)
def _own_environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hide the API keys, the settings and the files of the user who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "NBCHAT_")) and name != "NBCHAT_CHROMIUM":
            monkeypatch.delenv(name)
    # mktemp() would list the folders of all tests before.
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_numbers))
    home.mkdir(parents=True)
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(home / "anthropic"))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    # Forget the keys of earlier tests, because messages lose them as words.
    monkeypatch.setattr(secrets, "_secrets", set())
    monkeypatch.setattr(secrets, "_short_secrets", set())
    # What a test displays outside of a shell makes IPython create one, which later tests would find.
    if "IPython" in sys.modules and not isinstance(request.node, pytest.DoctestItem):
        sys.modules["IPython"].InteractiveShell.clear_instance()
    # The shells of doctests keep no history: its file would be gone at the end of the process.
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.setattr("IPython.core.history.HistoryManager.enabled.default_value", False)


@pytest.fixture(autouse=True, scope="session")
def _quick_end() -> Iterator[None]:
    """Let the process end at once: IPython would reset each shell then, and collect all garbage for each."""
    yield
    if "IPython" in sys.modules:
        shells = sys.modules["IPython"].InteractiveShell
        for shell in [thing for thing in gc.get_objects() if issubclass(type(thing), shells)]:
            atexit.unregister(shell.atexit_operations)
