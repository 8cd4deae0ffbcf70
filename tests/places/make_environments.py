"""Make the environments of this ring under ``build/places``: what a place has, with nbchat installed into it.

- ``colab``: the frozen set of Google Colab (``colab.txt``), then nbchat as a user adds it.
- ``oldest``: the oldest versions that pyproject.toml allows of every dependency and of every extra.
- ``newest``: the newest versions of the same.
- ``marimo`` and ``pyodide``: what their tests need.

An environment is made again only if its requirements, those of nbchat, or its Python changed.

Usage: ``python -m tests.places.make_environments [NAME …]``
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.environments import ROOT, make_once, uv

__all__ = ["MARIMO", "PLACES", "Place", "interpreter", "make", "make_marimo", "make_pyodide", "oldest"]

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / "build" / "places"
#: The extras of the places `oldest` and `newest`.
EXTRAS = ("local", "data", "mcp", "telemetry", "bedrock", "vertex")
#: Langfuse demands an OpenTelemetry newer than the oldest one of `telemetry`. So the place `newest` alone has it, and
#: for the place `oldest` only the resolver checks its bound.
APART = ("langfuse",)

#: The version of the npm package, which has Python 3.14.
PYODIDE = "314.0.7"

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[(?P<extras>[\w,-]+)\])?(?:>=(?P<oldest>[\w.]+))?")


@dataclass(frozen=True)
class Place:
    """An environment: the versions of Python that it prefers, and what is installed before nbchat.

    Args:
        name: the folder under ``build/places``.
        pythons: minor versions of Python 3, the best first. Together the places take all that the machine has.
        kernel: the requirement files of the kernel, which is no dependency of nbchat.
        is_oldest: install the oldest versions that pyproject.toml allows.
    """

    name: str
    pythons: tuple[int, ...]
    kernel: str
    is_oldest: bool = False

    @property
    def folder(self) -> Path:
        """Return the folder of the environment."""
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        """Return the interpreter of the environment."""
        return self.folder / "bin" / "python"

    def frozen(self, when: str) -> list[str]:
        """Return the versions ``before`` or ``after`` nbchat was installed, one ``name==version`` each."""
        return (self.folder / f"{when}.txt").read_text().splitlines()


PLACES = {
    place.name: place
    for place in (
        Place("colab", (13, 12, 11, 14), "colab.txt"),
        Place("oldest", (11, 12, 13, 14), "oldest_kernel.txt", is_oldest=True),
        Place("newest", (14, 12, 13, 11), "newest_kernel.txt"),
    )
}


def oldest(extras: Sequence[str] = EXTRAS) -> list[str]:
    """Return the requirements of nbchat and of these extras as ``name==version``, each with its lower bound.

    Raises:
        ValueError: a requirement has no lower bound, so nobody knows what it was tried with.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    bounds: dict[str, str] = {}
    for line in (*project["dependencies"], *optional):
        match = _REQUIREMENT.fullmatch(line)
        if match is None or not match["oldest"]:
            raise ValueError(f"pyproject.toml: {line} has no lower bound, such as {line.split('[')[0]}>=1.2")
        name = match["name"] + (f"[{match['extras']}]" if match["extras"] else "")
        bounds[name] = match["oldest"]
    return [f"{name}=={version}" for name, version in bounds.items()]


def interpreter(pythons: Sequence[int]) -> str:
    """Return the path of the first of these versions of Python 3 that the machine has."""
    for minor in pythons:
        if found := next(_installed(minor), None):
            return found
    raise SystemExit(f"none of Python 3.{', 3.'.join(map(str, pythons))} is installed")


def _installed(minor: int) -> Iterator[str]:
    if sys.version_info[1] == minor:
        yield sys.executable
    on_path = shutil.which(f"python3.{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [*([on_path] if on_path else []), *map(str, sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python")))]
    for path in candidates:
        # A shim of pyenv is on the PATH also for versions that are not active, and then fails.
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            yield path


def make(place: Place) -> float:
    """Make an environment if there is none with these requirements, and return the seconds that it took."""
    lines = oldest() if place.is_oldest else []
    python = interpreter(place.pythons)
    project = json.dumps(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    parts = [python, project, (HERE / place.kernel).read_text(), *lines, *EXTRAS, Path(__file__).read_text()]
    return make_once(place.folder, "\n".join(parts), lambda: _install(place, python, lines))


def _install(place: Place, python: str, lines: Sequence[str]) -> None:
    uv("venv", "--quiet", "--clear", "--python", python, place.folder)
    install = ("pip", "install", "--quiet", "--python", place.python, "--only-binary", ":all:")
    uv(*install, *lines, "-r", HERE / place.kernel)
    before = uv("pip", "freeze", "--python", place.python)
    # In Colab a user installs nbchat alone: the data libraries are there already.
    extras = {"colab": "", "oldest": f"[{','.join(EXTRAS)}]"}.get(place.name, f"[{','.join((*EXTRAS, *APART))}]")
    for extra in APART if place.is_oldest else ():
        uv("pip", "install", "--quiet", "--dry-run", "--python", place.python, *oldest((extra,)))
    uv("pip", "install", "--quiet", "--python", place.python, "--editable", f".{extras}")
    after = uv("pip", "freeze", "--python", place.python)
    (place.folder / "before.txt").write_text(before)
    (place.folder / "after.txt").write_text(after)


#: marimo's own command, in an environment with marimo and nbchat.
MARIMO = ENVIRONMENTS / "marimo" / "bin" / "marimo"


def make_marimo() -> None:
    """Make the environment of marimo if there is none."""
    folder = ENVIRONMENTS / "marimo"

    def install() -> None:
        uv("venv", "--quiet", "--clear", "--python", sys.executable, folder)
        uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", "marimo", "--editable", ".")

    make_once(folder, (ROOT / "pyproject.toml").read_text() + sys.version, install)


def make_pyodide() -> Path | None:
    """Install Pyodide from npm if it is not there, and return its node_modules, or None where that is not possible."""
    npm, folder = shutil.which("npm"), ENVIRONMENTS / "pyodide"
    if npm is None or shutil.which("node") is None:
        return None
    install = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, f"pyodide@{PYODIDE}"]

    def run_npm() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(install, capture_output=True, check=True, cwd=folder)

    try:
        make_once(folder, PYODIDE, run_npm)
    except subprocess.CalledProcessError:
        return None
    return folder / "node_modules"


def main(names: Sequence[str]) -> None:
    """Make the named environments, or all."""
    for name in names or PLACES:
        seconds = make(PLACES[name])
        version = subprocess.run([PLACES[name].python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
        print(f"{name}: {version}, {f'made in {seconds:.0f} s' if seconds else 'ready'}")


if __name__ == "__main__":
    main(sys.argv[1:])
