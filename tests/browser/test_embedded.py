"""Tests of the embedded model in a real JupyterLab: it answers, and the answer stays."""

from __future__ import annotations

from harness import Page, notebook_outputs

#: Long enough for many steps on a machine that is busy with other work.
ASK = "%%claude story << --endpoint local --max-tokens 180\nTell me a long story about a lighthouse and its keeper."


def test_an_answer_of_the_embedded_model_grows_and_is_saved(page: Page) -> None:
    """The text grows in at least ten steps, ends as one static output, and is still there after save and reload."""
    shown = "story.status, story.model, story.usage.output_tokens > 20"
    page.server.write("main.ipynb", "%load_ext nbchat", ASK, shown)
    page.open("main.ipynb")
    page.watch_growth()
    page.start_all()
    cell = page.raw.locator(".jp-CodeCell").nth(1)
    page.wait_idle(240)
    assert len(page.growth()) >= 10, "the text grew"
    assert cell.locator(".nbchat-live").count() == 0
    final = cell.locator(".nbchat").inner_text()
    assert len(final) > 40
    page.screenshot("embedded-final")

    saved = page.save()
    outputs = list(notebook_outputs(saved))
    answer = [output for output in outputs if "nbchat" in output.get("metadata", {})]
    assert len(answer) == 1
    assert set(answer[0].data) == {"text/html", "text/latex", "text/plain"}
    assert answer[0].metadata.nbchat.model == "SmolLM2-135M-Instruct"
    assert "widgets" not in saved.metadata
    assert not any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    assert "SmolLM2-135M-Instruct" in outputs[-1].data["text/plain"]
    assert outputs[-1].data["text/plain"].endswith("True)")

    page.reload()
    assert cell.locator(".nbchat").inner_text() == final
    page.screenshot("embedded-reloaded")
    assert not page.errors


def test_the_stop_button_keeps_what_arrived(page: Page) -> None:
    """■ during an answer keeps the partial answer with a marker. The cell fails, and the next cell does not run."""
    page.server.write(
        "stop.ipynb",
        "%load_ext nbchat",
        "%%claude --endpoint local --max-tokens 2000\nWrite a very long story about a lighthouse and its keeper.",
        "print('ran')",
    )
    page.open("stop.ipynb")
    page.start_all()
    cell = page.raw.locator(".jp-CodeCell").nth(1)
    cell.locator(".nbchat-live p").first.wait_for(timeout=240_000)
    page.command("notebook:interrupt-kernel")
    page.wait_idle(60)
    page.screenshot("embedded-interrupted")
    saved = page.save()
    shown, failed = saved.cells[1].outputs
    assert shown.metadata.nbchat.status == "interrupted"
    assert "interrupted" in shown.data["text/plain"]
    assert failed.ename == "KeyboardInterrupt"
    assert saved.cells[2].outputs == []
