"""Tests of conversations in a real JupyterLab: three turns, the second edited and run again, and Tab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from harness import JupyterServer, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.support.server import Received, Server, Wire, serving, streaming, text_events


def answer(wire: Wire, request: Received) -> None:
    """Repeat the prompt, in pieces and slowly enough to be seen live."""
    said = words(request.body["messages"][-1])
    streaming(text_events(["You ", "said ", f"{said}."]), pause=0.02)(wire, request)


def words(message: dict) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def sent(request: Received) -> list[str]:
    return [f"{message['role'][0]}: {words(message)}" for message in request.body["messages"]]


@pytest.fixture
def api() -> Iterator[Server]:
    with serving(answer) as server:
        yield server


def edit(page: Page, cell: int, text: str) -> None:
    """Type another text into a cell, as a user does."""
    page.raw.locator(".jp-CodeCell .cm-content").nth(cell).click()
    page.raw.keyboard.press("Control+A")
    page.raw.keyboard.type(text)


def run_cell(page: Page, cell: int) -> None:
    """Press Shift+Enter in a cell, and wait for its answer."""
    prompt = page.raw.locator(".jp-CodeCell .jp-InputPrompt").nth(cell)
    before = prompt.inner_text()
    page.raw.locator(".jp-CodeCell .cm-content").nth(cell).click()
    page.raw.keyboard.press("Shift+Enter")
    page.wait_until(
        "([cell, before]) => document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')[cell].textContent !== before",
        [cell, before],
    )
    page.wait_idle()


def start(server: JupyterServer, page: Page, api: Server, *cells: str) -> None:
    """Open a notebook whose cells ask the server."""
    first = f"%load_ext nbchat\n%config Nbchat.endpoint = '{api.url}'"
    server.write("conversations.ipynb", first, *cells)
    page.open("conversations.ipynb")
    run_cell(page, 0)


def test_the_second_of_three_turns_is_edited_and_run_again(server: JupyterServer, page: Page, api: Server):
    """A cell that runs again sends only the turns before its own. Later turns stay and are marked stale."""
    start(server, page, api, *(f"%%claude\n{prompt}" for prompt in ("one", "two", "three")), "%nbchat history")
    for cell in (1, 2, 3):
        run_cell(page, cell)
    one, two, _three = (["u: " + said, f"a: You said {said}."] for said in ("one", "two", "three"))
    assert [sent(request) for request in api.requests] == [["u: one"], [*one, "u: two"], [*one, *two, "u: three"]]

    edit(page, 2, "%%claude\ntwo, but better")
    run_cell(page, 2)
    assert sent(api.requests[-1]) == [*one, "u: two, but better"]
    run_cell(page, 4)
    rows = page.raw.locator(".jp-OutputArea-output").last.locator("tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["turn", "1", "2", "3"]
    assert ["stale" in row for row in rows[1:]] == [False, False, True]
    assert "two, but better" in rows[2]
    page.screenshot("conversations")

    run_cell(page, 3)
    better = ["u: two, but better", "a: You said two, but better."]
    assert sent(api.requests[-1]) == [*one, *better, "u: three"]
    assert len(api.requests) == 5
    answers = [page.raw.locator(".jp-OutputArea-output").nth(place).inner_text().strip() for place in range(3)]
    assert answers == ["You said one.", "You said two, but better.", "You said three."]
    page.save()
    assert [row.split()[1] for row in rows[1:]] == [f"[{number}]" for number in (2, 5, 4)]


def test_a_copied_cell_has_its_own_turn(server: JupyterServer, page: Page, api: Server):
    """JupyterLab gives a pasted cell a new id, so its turn comes after the turn of the original."""
    start(server, page, api, "%%claude\none")
    run_cell(page, 1)
    page.raw.locator(".jp-CodeCell .jp-InputPrompt").nth(1).click()
    page.command("notebook:copy-cell")
    page.command("notebook:paste-cell-below")
    run_cell(page, 2)
    assert sent(api.requests[-1]) == ["u: one", "a: You said one.", "u: one"]


def test_tab_completes_options_and_names(server: JupyterServer, page: Page, api: Server):
    """Tab shows the completions of nbchat in JupyterLab."""
    start(server, page, api, "sales = {'north': 120}\nsalary = 7", "")
    run_cell(page, 1)
    edit(page, 2, "%%claude --e")
    assert {"--effort", "--endpoint"} <= set(shown := proposals(page))
    assert all(text.startswith("--e") for text in shown)
    page.raw.keyboard.press("Escape")
    page.raw.keyboard.type("ffort ")
    # JupyterLab adds words of the notebook below the completions of the kernel.
    assert proposals(page)[:5] == ["low", "medium", "high", "xhigh", "max"]
    page.raw.keyboard.press("Escape")
    page.raw.keyboard.type("high\nSum up {{ sal")
    assert {"salary", "sales"} <= set(proposals(page))
    page.screenshot("completion")
    page.raw.keyboard.press("Enter")
    chosen = page.raw.locator(".jp-CodeCell .cm-content").nth(2).inner_text()
    assert chosen.startswith("%%claude --effort high")
    assert chosen.split()[-1] in ("salary", "sales")


def proposals(page: Page) -> list[str]:
    """Press Tab and return the list of completions. JupyterLab shows no list if there is only one completion."""
    shown = page.raw.locator(".jp-Completer-item").first
    shown.wait_for(state="hidden")
    for _ in range(10):
        page.raw.keyboard.press("Tab")
        # JupyterLab waits one second for the kernel. That is too short for the first time on a busy machine.
        with contextlib.suppress(PlaywrightTimeout):
            shown.wait_for(timeout=5_000)
            break
    return page.raw.locator(".jp-Completer-match").all_inner_texts()
