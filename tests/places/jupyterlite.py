"""Run cells in a stand-in for the kernel of JupyterLite, and print what they showed as JSON. A test runs this file.

No thread starts, there are no signals, no clock of a thread, no file locks, no SQLite and no home folder. The
kernel's ``get_parent`` takes no channel, and the kernel has no ``raw_input``
(https://github.com/jupyterlite/pyodide-kernel/blob/main/py/pyodide-kernel/pyodide_kernel/kernel.py).

Usage: ``python jupyterlite.py CELL …``
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import signal
import sys
import threading
import time
import warnings


def refuse(error: BaseException) -> object:
    def refused(*args: object, **kwargs: object) -> object:
        raise error

    return refused


threading.Thread.start = refuse(RuntimeError("can't start new thread"))  # type: ignore[method-assign, assignment]
signal.signal = signal.getsignal = refuse(ValueError("no signals here"))  # type: ignore[assignment]
for module in ("fcntl", "sqlite3", "_sqlite3", "multiprocessing.synchronize"):
    sys.modules[module] = None  # type: ignore[assignment]
del time.thread_time  # Pyodide has none
pwd.getpwuid = refuse(KeyError("no such user"))  # type: ignore[assignment]
for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
    del os.environ[name]

from IPython.core.displaypub import DisplayPublisher  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402

shown: list[dict[str, object]] = []


class Kernel:
    """What pyodide-kernel gives to libraries that ask for the kernel."""

    parent: dict[str, object] = {}

    def get_parent(self) -> dict[str, object]:
        return self.parent


class Publisher(DisplayPublisher):
    """Keep what would go to the page."""

    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **more):  # type: ignore[no-untyped-def]
        shown.append({"data": data, "metadata": metadata or {}, "update": update, "at": time.monotonic()})

    def clear_output(self, wait: bool = False) -> None:
        shown.append({"clear": wait})


InteractiveShell.display_pub_class.default_value = Publisher  # type: ignore[attr-defined]
shell = InteractiveShell.instance(display_pub_class=Publisher)
shell.kernel = kernel = Kernel()

import ipywidgets  # noqa: E402

values: list[tuple[float, str]] = []


def note(change: dict[str, object]) -> None:
    values.append((time.monotonic(), str(change["new"])))


ipywidgets.Widget.on_widget_constructed(
    lambda widget: widget.observe(note, "value") if widget.has_trait("value") else None
)
cells = []
for number, code in enumerate(sys.argv[1:]):
    shown.clear()
    values.clear()
    kernel.parent = {"header": {"msg_id": f"m{number}"}, "metadata": {"cellId": f"cell-{number}"}}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = shell.run_cell(code, store_history=True)
    cells.append(
        {
            "ok": result.success,
            "error": repr(result.error_in_exec or result.error_before_exec),
            "stdout": out.getvalue(),
            "stderr": err.getvalue(),
            "warnings": [str(warning.message) for warning in said],
            "shown": list(shown),
            "values": list(values),
        }
    )
cells.append({"threads": threading.active_count(), "value": str(shell.user_ns.get("_claude"))})
print(json.dumps(cells, default=str))
