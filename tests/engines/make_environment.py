"""Make the environment of this ring under ``build/engines``: Ray, Dask, and what nbchat needs.

nbchat itself is the one of the source tree: the tests put it on the path of the workers.

Usage: ``python -m tests.engines.make_environment``
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

__all__ = ["PYTHON", "make"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "engines"
PYTHON = FOLDER / "bin" / "python"
#: The extras of pyproject.toml for the engines that run here. Daft and Spark are documented.
ENGINES = ("ray", "dask")


def make() -> None:
    """Make the environment, or keep the one that was made for the same requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(library for engine in ENGINES for library in extras[engine])]
    stamp, wanted = FOLDER / "requirements.txt", "\n".join([*needed, *map(str, sys.version_info[:2])])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    venv.create(FOLDER, with_pip=True, clear=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *needed], check=True)
    stamp.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    make()
    print(PYTHON, file=sys.stderr)
