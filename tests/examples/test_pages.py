"""Run the examples of the README and of the documentation, without a key and without a network.

The code of a page runs in order, in one IPython shell and in an empty folder. A scripted endpoint answers.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbchat
from nbchat.notebook.magics import install, uninstall
from tests.examples.pages import ROOT, Block, blocks_of, pages

PAGES = pages()
#: The languages of code that runs, and of text that is only read.
RUN = {"python", "pycon", "sh"}
READ = {"text", "json", "toml", "yaml", "sql", "http", "ini"}
#: This page has a test of its own, which compares what is sent: tests/contract/test_how_to_features.py.
ELSEWHERE = {ROOT / "docs" / "how-to" / "messages-api-features.md"}
#: The commands of shell examples that run here. Others need a comment that says why they do not.
COMMANDS = {"python", "pytest", "make"}

each_page = pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in ELSEWHERE], ids=lambda page: str(page.relative_to(ROOT))
)


class Script:
    """An endpoint whose answers each block of a page sets. It speaks for every endpoint that the page names."""

    name, model = "anthropic", "claude-sonnet-5-5"

    def __init__(self) -> None:
        self._script = nbchat.ScriptedTransport(repeat=True)
        self.answer()

    def answer(self, *answers: Any) -> None:
        """Take the answers of the next block."""
        self._script = nbchat.ScriptedTransport(*answers, model=self.model)
        self._rest = nbchat.ScriptedTransport("Fine.", repeat=True, model=self.model)

    def __deepcopy__(self, memo: object) -> Script:
        return self

    def has_credentials(self) -> bool:
        """Return True: the pages are written for somebody who has a key."""
        return True

    def stream(self, request: nbchat.Request) -> Any:
        """Answer with the script, and after its end with a word."""
        used = len(self._script.requests) >= len(self._script._answers)
        return (self._rest if used else self._script).stream(request)

    def open_async(self, *, has_spans: bool = False) -> Any:
        """Return a door for rows, which get the answers in order."""
        answers = [*self._script._answers, *["Fine."] * 10]
        return nbchat.ScriptedTransport(*answers, model=self.model).open_async(has_spans=has_spans)

    def count_tokens(self, request: nbchat.Request) -> int:
        """Return an estimate."""
        return self._script.count_tokens(request)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """Return a shell with the extension, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbchat.notebook.magics._preload", lambda: None)
    monkeypatch.setenv("MPLBACKEND", "agg")
    # A page may choose a session, which is not that of the next page.
    monkeypatch.setattr("nbchat.engine.current_session._current", [])
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}), colors="nocolor")
    install(shell)
    # Whatever endpoint a page names, the script answers. So does a session that a page makes.
    script = shell.user_ns["_script"] = Script()
    shell.nbchat.session.endpoints._fixed = script
    monkeypatch.setattr("nbchat.engine.endpoints.Endpoints._transport_of", lambda self, settings: script)
    yield shell
    uninstall(shell)
    InteractiveShell.clear_instance()


def run_cell(shell: InteractiveShell, block: Block) -> str:
    """Run a cell, check how it ends, and return what it printed."""
    shell.user_ns["_script"].answer(*(block.answers or ()))
    if setup := block.comments.get("setup"):
        exec(compile(setup.strip(), "<setup>", "exec"), shell.user_ns)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        result = shell.run_cell(block.code, store_history=True)
    error = result.error_before_exec or result.error_in_exec
    expected = block.comments.get("raises")
    assert (type(error).__name__ if error is not None else None) == expected, (
        f"{block.place}\n{block.code}\n{printed.getvalue()}"
    )
    return printed.getvalue()


def run_doctest(shell: InteractiveShell, block: Block) -> str:
    """Run a block with prompts, and fail if a result differs."""
    example = doctest.DocTestParser().get_doctest(
        block.code + "\n", shell.user_ns, block.place, str(block.page), block.line
    )
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failures = runner.run(example, out=report.write, clear_globs=False).failed
    assert not failures, report.getvalue()
    shell.user_ns.update(example.globs)
    return ""


def run_script(shell: InteractiveShell, block: Block) -> str:
    """Run the commands of a shell example in the folder of the page's test.

    The tests are a target of make themselves, so a line of ``make`` is not run: its targets must exist.
    """
    lines = block.code.splitlines()
    for line in (line for line in lines if line.startswith("make ")):
        for target in (word for word in shlex.split(line, comments=True)[1:] if "=" not in word):
            assert target in make_targets(), f"{block.place}: make {target}"
    code = "\n".join(line for line in lines if not line.startswith("make "))
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euc", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_targets() -> set[str]:
    """Return the targets of the Makefile that have a name, and the rings of tests."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rings = re.findall(r"^\$\(call ring,(\w+),", text, re.MULTILINE)
    return set(re.findall(r"^(\w+):", text, re.MULTILINE)) | set(rings)


def same(printed: str, shown: str) -> bool:
    """Return True if the text of the page is what was printed; ``…`` stands for any text."""
    pattern = r".*?".join(re.escape(part) for part in shown.strip().split("…"))
    return (
        re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.strip().split("\n")), re.DOTALL) is not None
    )


@each_page
def test_the_examples_run(page: Path, shell: InteractiveShell):
    """Every example runs, ends as the page says, and prints what the page shows."""
    ways = {"python": run_cell, "pycon": run_doctest, "sh": run_script}
    for block in blocks_of(page):
        if block.language not in RUN or "not run" in block.comments:
            continue
        printed = ways[block.language](shell, block)
        if block.printed is not None:
            assert same(printed, block.printed), f"{block.place} prints:\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path):
    """A block has a language. Code that does not run has a reason, and a command that is not known has one too."""
    for block in blocks_of(page):
        assert block.language in RUN | READ or block.language.startswith("{"), f"{block.place}: {block.language!r}"
        if block.language == "sh" and "not run" not in block.comments:
            for line in block.code.replace("\\\n", " ").splitlines():
                words = [word for word in shlex.split(line, comments=True) if "=" not in word]
                assert not words or words[0] in COMMANDS, f"{block.place}: {words[0]} is not run; say why"
        if block.language == "python" and "not run" in block.comments and "%" not in block.code:
            ast.parse(block.code)  # at least it is Python


#: The folders of the site that docs/conf.py fills, and where the pages come from.
COPIES: dict[Path, Callable[[str], Path]] = {
    ROOT / "docs" / "notebooks": lambda name: ROOT / "notebooks" / name,
    ROOT / "docs" / "project": lambda name: ROOT / ORIGINALS[name],
}
ORIGINALS = {
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "conduct.md": "CODE_OF_CONDUCT.md",
    "benchmarks.md": "bench/README.md",
}


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and the site make them, and its own labels."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.strip().replace(" ", "-") for word in words} | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_broken(page: Path):
    """A link to a file of this repository leads to a file, and a link to a heading to a heading."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if target.parent.resolve() in COPIES:  # of pages that docs/conf.py copies when it builds the site
            target = COPIES[target.parent.resolve()](target.name)
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in heading_anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_exist(page: Path):
    """A file that moves changes the page too. Names in capital letters, such as NAME.py, stand for any name."""
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:nbchat|tests|bench|docs|changes)/[\w/.-]+\.(?:py|md))(?:::\w+)?`", text):
        assert re.search(r"/[A-Z]+\.", path) or (ROOT / path).exists(), f"{page.name}: {path}"


def test_a_wrong_example_is_found(shell: InteractiveShell, tmp_path: Path):
    """The tests above can fail: a cell that raises, a result that differs, and other printed text."""
    page = ROOT / "docs" / "planted.md"
    for language, code in (("python", "1 / 0"), ("python", "%%claude --modle x\nHi"), ("pycon", ">>> 1 + 1\n3")):
        ways = {"python": run_cell, "pycon": run_doctest}
        with pytest.raises(AssertionError):
            ways[language](shell, Block(page, 1, language, code))
    assert not same("one\ntwo", "one")
    assert same("one\ntwo", "o…o")
