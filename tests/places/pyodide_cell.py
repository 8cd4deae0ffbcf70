# Pyodide runs this file. The test adds the cells; the value of the last line goes back to Node.
import contextlib
import io
import json
import sys
import types

sys.path[:0] = ["/src"]
sys.path.append("/site")  # packages without compiled parts


class Cleaner:
    """Stands for nh3, whose wheel for Pyodide is not on PyPI. Nothing is rendered rather than rendered unsafely."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError("there is no nh3 here")


sys.modules["nh3"] = types.ModuleType("nh3")
sys.modules["nh3"].Cleaner = Cleaner

from IPython.core.displaypub import DisplayPublisher  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402

shown = []


class Kernel:
    parent = {}

    def get_parent(self):
        return self.parent


class Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **more):
        shown.append({"data": data, "metadata": metadata or {}, "update": update})


shell = InteractiveShell.instance(display_pub_class=Publisher)
shell.kernel = Kernel()
cells = []
for number, code in enumerate(CELLS):  # noqa: F821
    shown.clear()
    shell.kernel.parent = {"header": {"msg_id": f"m{number}"}, "metadata": {"cellId": f"cell-{number}"}}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        result = shell.run_cell(code, store_history=True)
    error = repr(result.error_in_exec or result.error_before_exec)
    cells.append({"ok": result.success, "error": error, "printed": printed.getvalue(), "shown": list(shown)})
json.dumps(
    {"python": sys.version, "platform": sys.platform, "cells": cells, "answer": str(shell.user_ns.get("_claude"))}
)
