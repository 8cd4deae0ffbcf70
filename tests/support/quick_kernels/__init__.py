"""Kernels that start quickly, because they are forks of one process that has imported the libraries.

Importing anthropic takes two or three seconds of a processor in each kernel, and the tests start hundreds. nbchat
itself is not imported before the fork. Jupyter finds these kernels by a kernel specification named python3:

*client*   is what Jupyter starts. It asks for a fork, passes signals on to it, and ends when it ends.
*server*   is started by the first client. It imports the libraries, and forks for each client.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

__all__ = ["FRESH", "offer"]

#: A kernel whose environment has this variable is a process of its own.
FRESH = "FRESH_KERNEL"


def offer() -> None:
    """Let Jupyter start quick kernels in this process and all processes that it starts."""
    if sys.platform != "linux":  # elsewhere a fork of a process with threads of the system is not safe
        return
    folder = Path(tempfile.mkdtemp(prefix="quick-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    specification = {
        "argv": [
            *(sys.executable, "-I", "-S", str(Path(__file__).parent / "client.py"), str(folder)),
            *("-f", "{connection_file}"),
        ],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True},
    }
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(specification))
    owner = {"environment": dict(os.environ), "process": os.getpid()}
    (folder / "owner.json").write_text(json.dumps(owner))
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("JUPYTER_PATH")]))
