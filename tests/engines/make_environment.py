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
#: The engines that really run here. Daft and Spark are documented.
ENGINES = ("ray>=2.40", "dask>=2025.1", "distributed>=2025.1", "pandas>=2.2", "pyarrow>=16")


def make() -> None:
    """Make the environment, if it is not there."""
    if PYTHON.exists():
        return
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    venv.create(FOLDER, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *needed, *ENGINES], check=True)


if __name__ == "__main__":
    make()
    print(PYTHON, file=sys.stderr)
