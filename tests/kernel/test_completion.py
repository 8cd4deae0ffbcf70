"""Tab completion in a real kernel, with the complete_request that JupyterLab sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.harness import TIMEOUT_S, Kernel, kernel_of


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Start a kernel with nbchat loaded, several variables, a file and a second conversation."""
    home = tmp_path_factory.mktemp("completion")
    (home / "sales.csv").write_text("a,b\n1,2\n")
    with kernel_of(home) as kernel:
        kernel.run(
            "%load_ext nbchat\n"
            "import nbchat\n"
            "sales = {'north': 120}\n"
            "def lookup(city: str) -> str: 'Weather.'; return city\n"
            "session = get_ipython().nbchat.session\n"
            "transport = nbchat.ScriptedTransport('Fine.', repeat=True)\n"
            "session.endpoints._fixed = transport\n"
            "_ = session.ask('Hi', chat='review')\n"
        )
        yield kernel


def completed(kernel: Kernel, marked: str) -> set[str]:
    """Return the cell after each possible completion at ``|``. The kernel counts the cursor in code points."""
    before, after = marked.split("|")
    kernel.client.complete(before + after, len(before))
    reply = kernel.client.get_shell_msg(timeout=TIMEOUT_S)["content"]
    assert reply["status"] == "ok"
    code = before + after
    return {code[: reply["cursor_start"]] + match + code[reply["cursor_end"] :] for match in reply["matches"]}


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("%%claude --eff|", "%%claude --effort"),
        ("%%claude --dry|\nHello", "%%claude --dry-run\nHello"),
        ("%claude --web-s| what is new?", "%claude --web-search what is new?"),
        ("%%claude -m claude-son|\nHello", "%%claude -m claude-sonnet-5-5\nHello"),
        ("%%claude --effort h|", "%%claude --effort high"),
        ("%%claude --effort=h|", "%%claude --effort=high"),
        ("%%claude -c re|", "%%claude -c review"),
        ("%%claude --endpoint an|", "%%claude --endpoint anthropic"),
        ("%%claude --tools loo|", "%%claude --tools lookup"),
        ("%%claude --attach sal|\nSum it up", "%%claude --attach sales.csv\nSum it up"),
        ("%%claude\nSum up {{ sal| }} please", "%%claude\nSum up {{ sales }} please"),
        ("%%claude\nµ ∑ 🎉 {{ sal|", "%%claude\nµ ∑ 🎉 {{ sales"),
        ("%%claude\n{{ transport.req| }}", "%%claude\n{{ transport.requests }}"),
        ("plan = %claude what of {{ sal| }}", "plan = %claude what of {{ sales }}"),
        ("x = 1\n%nbchat his|", "x = 1\n%nbchat history"),
        ("%nbchat history re|", "%nbchat history review"),
        ("%nbchat cassette a.jsonl --mode rep|", "%nbchat cassette a.jsonl --mode replay"),
    ],
)
def test_the_cell_after_tab(kernel, marked, expected):
    """The completion replaces exactly the word at the cursor."""
    assert expected in completed(kernel, marked)


def test_only_what_fits_is_proposed(kernel):
    """The line of options does not complete files, magics or Python names."""
    assert completed(kernel, "%%claude --effort |") == {
        f"%%claude --effort {level}" for level in ("low", "medium", "high", "xhigh", "max")
    }


def test_an_expression_takes_no_statement(kernel):
    """Tab inside ``{{`` suggests names and no keyword that begins a statement."""
    found = completed(kernel, "%%claude\n{{ de|")
    assert "%%claude\n{{ delattr" in found
    assert not {"%%claude\n{{ def", "%%claude\n{{ del"} & found
    assert "%%claude\n{{ lambda" in completed(kernel, "%%claude\n{{ lam|")


def test_python_cells_complete_as_ever(kernel):
    """IPython completes names and magics in all other cells."""
    assert "sales" in completed(kernel, "sal|")
    assert "%%claude" in completed(kernel, "%%clau|")


def test_unloading_takes_it_out_and_loading_again_puts_it_back(kernel):
    """``%unload_ext`` removes the completions."""
    kernel.run("%unload_ext nbchat")
    assert "%%claude --effort" not in completed(kernel, "%%claude --eff|")
    kernel.run("%load_ext nbchat")
    assert "%%claude --effort" in completed(kernel, "%%claude --eff|")
