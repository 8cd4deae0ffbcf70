"""Tests of the question about a call, its answer and the editing of code, in JupyterLab and Notebook 7."""

from __future__ import annotations

import pytest
from harness import FrontEnd, Page, without_questions

from tests.support.thorough import THOROUGH

SETUP = """
%load_ext nbchat
import nbchat
CODE = '''import math

def area(radius):
    return 3 * radius ** 2


print("area", area(2))'''
nb = get_ipython().nbchat.settings
nb.endpoints = {"script": nbchat.ScriptedTransport(
    ["I will compute the area.", {"tool": "run_python", "input": {"code": CODE}}], "It is **12.57**.",
    [{"tool": "weather", "input": {"city": "Oslo"}}], "It rains.",
)}
nb.endpoint = "script"

@nbchat.tool(approve="ask")
def weather(city: str) -> str:
    return f"rain in {city}"
"""
ASK = "%%claude --run\nWhich area has a circle with the radius 2?"
FUNCTION = "%%claude\nThe weather in Oslo?"
INPUT = ".jp-Stdin-input"


def type_answer(page: Page, text: str) -> None:
    """Type a line into the question, and wait until it was taken."""
    box = page.raw.wait_for_selector(INPUT)
    assert box
    box.fill(text)
    box.press("Enter")
    box.wait_for_element_state("hidden")


def shown_text(page: Page) -> str:
    """Return the text that is on the page now."""
    return str(page.raw.evaluate("() => document.querySelector('.jp-Notebook').innerText"))


def wait_for_text(page: Page, text: str) -> None:
    """Wait until the text is on the page: the kernel sends texts and questions on different channels."""
    page.wait_until("text => document.querySelector('.jp-Notebook').innerText.includes(text)", text)


def question(page: Page) -> str:
    """Return the question that waits, which must be in sight with the whole input."""
    # JupyterLab scrolls to the input after it has drawn it.
    page.wait_until(
        """input => {
            const box = [...document.querySelectorAll(input)].at(-1)?.getBoundingClientRect();
            return box && box.top >= 0 && box.bottom <= innerHeight && box.width > 100;
        }""",
        INPUT,
        timeout=30,
    )
    return page.raw.locator(".jp-Stdin-prompt").last.inner_text()


#: Each front end in one theme. THOROUGH=1 runs all pairs.
PAIRS = [("lab", "Light"), ("notebook", "Dark"), *[("lab", "Dark"), ("notebook", "Light")] * THOROUGH]


@pytest.mark.parametrize(("front_end", "theme"), PAIRS)
def test_the_code_is_there_once_and_what_ran_stays(page: Page, front_end: FrontEnd, theme: str) -> None:
    """The question is in sight under the card. After an edit, the card has the code that ran and who allowed it."""
    name = f"approval-{front_end}-{theme}"
    page.server.write(f"{name}.ipynb", SETUP, ASK, FUNCTION)
    page.open(f"{name}.ipynb", front_end)
    page.command("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    page.start_all()
    asked = question(page)
    assert asked.startswith("Run 7 lines of Python? [y]es, [n]o, [e]dit, [a]lways (run_python, in this notebook until")
    page.settle()
    page.screenshot(f"{name}-1-question")
    assert shown_text(page).count("3 * radius ** 2") == 2  # the code on the card, and the cell that has the script
    type_answer(page, "e")
    assert question(page).startswith("Change a line")
    page.screenshot(f"{name}-2-editing")
    wait_for_text(page, "4      return 3 * radius ** 2")
    type_answer(page, "4:     return math.pi * radius ** 2")
    wait_for_text(page, "4      return math.pi * radius ** 2")
    type_answer(page, "")
    assert question(page).startswith("Run 7 lines of Python, as edited?")
    page.screenshot(f"{name}-3-edited")
    type_answer(page, "y")
    assert question(page).startswith("Run weather(city='Oslo')?")
    page.screenshot(f"{name}-4-function")
    type_answer(page, "n it is not needed")
    page.wait_idle()
    page.screenshot(f"{name}-5-end")
    notebook = page.save()
    # The front end itself keeps the questions and the answers, as a stream that exports leave out.
    outputs = without_questions(notebook.cells[1].outputs)
    assert [output.output_type for output in outputs] == ["display_data", "stream", "display_data"]
    assert "3 * radius" not in str(outputs)
    assert str(outputs[0].data["text/plain"]).count("math.pi * radius ** 2") == 1
    assert "run_python(7 lines) · allowed as edited" in outputs[0].data["text/html"]
    assert outputs[1].text.startswith("area 12.56")
    assert "Result" not in outputs[2].data["text/html"]
    declined = str(notebook.cells[2].outputs)
    assert "weather(city='Oslo') · declined: it is not needed" in declined.replace("\\'", "'")
    assert "Error" not in declined
