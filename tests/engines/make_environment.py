"""Make the environment of this ring under ``build/engines``: Ray, Dask, and what nbchat needs.

nbchat itself is the one of the source tree: the tests put it on the path of the workers.

Usage: ``python -m tests.engines.make_environment``
"""

from __future__ import annotations

import sys
import tomllib

from tests.support.environments import ROOT, make_once, uv

__all__ = ["PYTHON", "ROOT", "make"]

FOLDER = ROOT / "build" / "engines"
PYTHON = FOLDER / "bin" / "python"
#: The extras of pyproject.toml for the engines that run here. Daft and Spark are documented.
ENGINES = ("ray", "dask")


def make() -> None:
    """Make the environment, or keep the one that was made for the same requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(library for engine in ENGINES for library in extras[engine])]

    def install() -> None:
        uv("venv", "--quiet", "--clear", "--python", sys.executable, FOLDER)
        uv("pip", "install", "--quiet", "--python", PYTHON, *needed)

    make_once(FOLDER, "\n".join([*needed, sys.version]), install)


if __name__ == "__main__":
    make()
    print(PYTHON, file=sys.stderr)
