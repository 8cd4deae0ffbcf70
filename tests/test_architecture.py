"""Tests of the architecture: import directions, doors to libraries, light imports, and names and sizes of modules."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nbchat

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nbchat"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Modules that take more than a few milliseconds to import, or that not every user has installed.
HEAVY = {
    *("anthropic", "httpx2", "httpx", "pydantic", "ipywidgets", "comm", "IPython.display"),
    *("markdown_it", "mdit_py_plugins", "nh3", "rich", "genai_prices", "platformdirs", "sqlite3", "asyncio"),
    *("pandas", "numpy", "matplotlib", "PIL", "polars", "mcp", "opentelemetry", "langfuse", "xllamacpp"),
}
LONGEST = 400  # lines of a module
#: Longer modules, with the reason why they are not split.
LONGER = {
    "core/errors.py": "the tree of errors: each class with an example that runs",
    "store/ledger.py": "one file format: its schema, its migrations and its queries",
}
HARD_LIMIT = 650
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "base", "misc"}


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_the_import_contracts_are_kept():
    """import-linter finds no broken contract. A failure shows its report."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}\n{done.stderr}"
    assert " 0 broken" in done.stdout


def test_the_contract_of_directions_is_exhaustive():
    """The contracts are exhaustive, so that a new module needs a new line, which a reviewer sees."""
    text = (ROOT / ".importlinter").read_text(encoding="utf-8")
    layered = [part for part in text.split("[importlinter:contract:") if "type = layers" in part]
    assert len(layered) >= 6
    assert all("exhaustive = true" in part for part in layered)


@functools.cache
def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports anywhere. Relative imports are not allowed."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module or "")
    return names


def test_core_imports_the_standard_library_and_itself_only():
    """``core`` imports only the standard library and itself, also within functions."""
    for path in (PACKAGE / "core").glob("*.py"):
        foreign = {
            name
            for name in imported(path)
            if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("nbchat.core")
        }
        assert not foreign, f"{path.name} imports {foreign}"


@pytest.mark.parametrize("module", ["time", "datetime", "os", "random", "subprocess", "threading", "socket", "logging"])
def test_core_has_no_clock_no_environment_and_no_randomness(module: str):
    """``core`` reads no clock, environment or random numbers. Its callers pass them."""
    for path in (PACKAGE / "core").glob("*.py"):
        assert module not in {name.split(".")[0] for name in imported(path)}, path.name


#: The modules that may import each library. import-linter cannot check single modules of other packages.
DOORS = {
    "IPython.core.magic": {"notebook/magics.py"},
    "IPython.display": {"view/final.py", "view/live/widgets.py"},
    "ipywidgets": {"view/live/widgets.py"},
    "anthropic": {f"transports/claude/{name}.py" for name in ("client", "fast_way", "short_way")},
    "aiohttp": {f"transports/claude/{name}.py" for name in ("fast_way", "short_way")},
    "httpx2": {f"transports/claude/{name}.py" for name in ("connections", "fast_way", "network", "short_way")},
    "httpcore2": {"transports/claude/connections.py"},
    "xllamacpp": {"transports/local_process.py"},
    "sqlite3": {"store/ledger.py", "store/migrations.py", "rows/store.py"},
    "mcp": {"tools/mcp.py", "tools/mcp_server.py"},
}


@pytest.mark.parametrize("library", DOORS)
def test_each_library_is_imported_only_by_its_modules(library: str):
    """A library is imported only by the listed modules, also within functions and for types."""
    through = {
        relative(path)
        for path in MODULES
        if any(name == library or name.startswith(f"{library}.") for name in imported(path))
    }
    assert through <= DOORS[library]


FRESH = """
import json, sys, threading
{shell}
before = set(sys.modules)
started = []
start = threading.Thread.start
threading.Thread.start = lambda thread: started.append(thread)
import nbchat
{load}
foreground = sorted(set(sys.modules) - before)
threading.Thread.start = start
for thread in started:
    thread.start()
for thread in started:
    thread.join(120)
print(json.dumps([foreground, [thread.name for thread in started], sorted(set(sys.modules) - before)]))
"""
SHELL = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell()"


def fresh(shell: str = "", load: str = "") -> tuple[set[str], list[str], set[str]]:
    """Run code in a fresh process. Return its foreground modules, its new threads, and the modules after they ended."""
    code = FRESH.format(shell=shell, load=load)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    foreground, threads, afterwards = json.loads(done.stdout.splitlines()[-1])
    return set(foreground), threads, set(afterwards)


def test_importing_nbchat_loads_nothing_else():
    """``import nbchat`` loads only nbchat itself and a few modules of the standard library."""
    foreground, threads, _ = fresh()
    assert {name.split(".")[0] for name in foreground} - sys.stdlib_module_names == {"nbchat"}
    assert threads == []
    assert not HEAVY & foreground
    assert len(foreground) < 25, sorted(foreground)


def test_loading_the_extension_is_light_and_a_thread_loads_the_sdk():
    """The foreground loads only nbchat itself. A thread then loads the SDK, the widgets and the renderer."""
    foreground, threads, afterwards = fresh(SHELL, 'shell.run_line_magic("load_ext", "nbchat")')
    foreign = {name.split(".")[0] for name in foreground} - sys.stdlib_module_names
    assert foreign <= {"nbchat", "IPython", "traitlets"}
    assert not HEAVY & foreground
    assert not {
        name for name in foreground if name.startswith(("nbchat.engine.session", "nbchat.view", "nbchat.transports"))
    }
    assert "nbchat-preload" in threads
    assert {
        "anthropic",
        "httpx2",
        "ipywidgets",
        "markdown_it",
        "nbchat.notebook.cell",
        "nbchat.engine.session",
    } <= afterwards
    # Optional libraries are not loaded by the thread either. The SDK itself loads the API of opentelemetry.
    assert not {"pandas", "matplotlib", "PIL", "mcp", "langfuse", "xllamacpp"} & afterwards


def test_the_public_names():
    """A new public name must be added here, because it has to be supported for years."""
    assert set(nbchat.__all__) == {
        "Conversation",
        "NbchatError",
        "Notice",
        "Request",
        "Response",
        "ScriptedTransport",
        "Session",
        "Sink",
        "Transport",
        "Usage",
        "__version__",
        "aask",
        "ask",
        "ask_each",
        "attach",
        "batches",
        "each",
        "errors",
        "last_job",
        "load",
        "load_ipython_extension",
        "merge_shards",
        "tool",
        "unload_ipython_extension",
        "usage",
        "use_session",
    }
    for name in nbchat.__all__:
        assert getattr(nbchat, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nbchat.nothing


def test_the_readme_is_short():
    """A README is read to its end. tests/examples checks its links, and the reference has the public names."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_modules_are_short():
    """A module is short enough to be read in one go. Longer modules are listed with the reason."""
    for path in MODULES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        allowed = HARD_LIMIT if relative(path) in LONGER else LONGEST
        assert lines <= allowed, f"{relative(path)} has {lines} lines: find its seam, or say here why there is none"
    assert set(LONGER) <= {relative(path) for path in MODULES}


def test_no_module_has_a_vague_name():
    """The name of a module tells its content."""
    assert not {path.stem for path in PACKAGE.rglob("*")} & VAGUE


def test_every_module_has_a_docstring():
    """Each module has a docstring."""
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), relative(path)
