"""The environments of ``tests/places`` and ``tests/engines`` under ``build/``: each is made once, by whoever is first.

Usage: ``python -m tests.support.environments``, which makes all of them side by side. ``make test`` does so in the
background, while the first rings run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from nbchat.file_locks import writing

__all__ = ["ROOT", "make_once", "uv"]

ROOT = Path(__file__).parents[2]


@cache
def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise SystemExit("uv is missing: pip install uv")
    return found


def uv(*words: str | Path, **more: str) -> str:
    """Run uv and return what it printed. Raises SystemExit with its own message if it fails."""
    done = subprocess.run([_uv(), *map(str, words)], capture_output=True, text=True, cwd=ROOT, env=os.environ | more)
    if done.returncode:
        raise SystemExit(f"uv {' '.join(map(str, words))} failed:\n{done.stderr}")
    return done.stdout


def make_once(folder: Path, requirements: str, make: Callable[[], object]) -> float:
    """Make an environment if there is none with these requirements. Wait if another process makes it now.

    Args:
        folder: the environment.
        requirements: all that decides what is in the environment, as text.
        make: makes the environment.

    Returns:
        the seconds that it took, 0 if the environment was there.
    """
    began = time.monotonic()
    stamp, stamp_file = hashlib.sha256(requirements.encode()).hexdigest(), folder / ".stamp"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with writing(folder.with_name(f"{folder.name}.lock")):
        if stamp_file.is_file() and stamp_file.read_text() == stamp:
            return 0.0
        make()
        stamp_file.write_text(stamp)
    return time.monotonic() - began


def main() -> None:
    """Make all environments of the tests."""
    from tests.engines import make_environment as engines
    from tests.places import make_environments as places

    makers: dict[str, Callable[[], object]] = {
        "engines": engines.make,
        **{name: lambda place=place: places.make(place) for name, place in places.PLACES.items()},
        "marimo": places.make_marimo,
        "pyodide": places.make_pyodide,
    }

    def timed(name: str) -> None:
        began = time.monotonic()
        makers[name]()
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)

    with ThreadPoolExecutor(len(makers)) as pool:
        list(pool.map(timed, makers))


if __name__ == "__main__":
    main()
