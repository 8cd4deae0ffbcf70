"""Tests of the embedded model in a real JupyterLab: it answers, and the answer stays."""

from __future__ import annotations

import time

import pytest
from harness import Page, notebook_outputs

ASK = "%%claude tips << --endpoint local --max-tokens 150\nGive three short tips for naming variables, as a list."


@pytest.fixture
def person(persons_page: Page) -> Page:
    """Return a page of kernels that do not know that a test runs them."""
    return persons_page


def test_an_answer_of_the_embedded_model_grows_and_is_saved(person: Page) -> None:
    """The text grows in at least three steps, ends as one static output, and is still there after save and reload."""
    person.server.write("main.ipynb", "%load_ext nbchat", ASK, "tips.status, tips.model, tips.usage.output_tokens > 20")
    person.open("main.ipynb")
    person.start_all()
    seen: list[str] = []
    deadline = time.monotonic() + 240
    cell = person.raw.locator(".jp-CodeCell").nth(1)
    live = cell.locator(".nbchat-live")
    while time.monotonic() < deadline:
        # Both are read in one call, because the text counts as growing only while the live view shows it.
        state = cell.evaluate(
            "cell => [!!cell.querySelector('.nbchat-live'), cell.querySelector('.jp-Cell-outputArea')?.innerText ?? '']"
        )
        if state[0] and state[1] and (not seen or len(state[1]) > len(seen[-1]) + 3):
            seen.append(state[1])
            if len(seen) == 3:
                person.screenshot("embedded-live")
        if cell.locator(".jp-InputPrompt").inner_text() not in ("[*]:", "[ ]:"):
            break
        time.sleep(0.03)
    person.wait_idle(240)
    assert len(seen) >= 3, f"the text grew in {len(seen)} steps"
    assert live.count() == 0
    final = cell.locator(".nbchat").inner_text()
    assert len(final) > 40
    person.screenshot("embedded-final")

    saved = person.save()
    outputs = list(notebook_outputs(saved))
    answer = [output for output in outputs if "nbchat" in output.get("metadata", {})]
    assert len(answer) == 1
    assert set(answer[0].data) == {"text/html", "text/latex", "text/plain"}
    assert answer[0].metadata.nbchat.model == "SmolLM2-135M-Instruct"
    assert "widgets" not in saved.metadata
    assert not any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    assert "SmolLM2-135M-Instruct" in outputs[-1].data["text/plain"]
    assert outputs[-1].data["text/plain"].endswith("True)")

    person.reload()
    assert cell.locator(".nbchat").inner_text() == final
    person.screenshot("embedded-reloaded")
    assert not person.errors


def test_the_stop_button_keeps_what_arrived(person: Page) -> None:
    """■ during an answer keeps the partial answer with a marker. The cell fails, and the next cell does not run."""
    person.server.write(
        "stop.ipynb",
        "%load_ext nbchat",
        "%%claude --endpoint local --max-tokens 2000\nWrite a very long story about a lighthouse and its keeper.",
        "print('ran')",
    )
    person.open("stop.ipynb")
    person.start_all()
    cell = person.raw.locator(".jp-CodeCell").nth(1)
    cell.locator(".nbchat-live p").first.wait_for(timeout=240_000)
    time.sleep(1.0)
    person.command("notebook:interrupt-kernel")
    person.wait_idle(60)
    person.screenshot("embedded-interrupted")
    saved = person.save()
    shown, failed = saved.cells[1].outputs
    assert shown.metadata.nbchat.status == "interrupted"
    assert "interrupted" in shown.data["text/plain"]
    assert failed.ename == "KeyboardInterrupt"
    assert saved.cells[2].outputs == []
