"""Tools, run_python, approval, --code and --fix in a real ipykernel, as a front end sees them."""

from __future__ import annotations

import re
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.harness import Cell, Kernel, kernel_of, table_of
from tests.support.waiting import wait_for

SETUP = """
%load_ext nbchat
import nbchat

def script(*answers, **more):
    nb = get_ipython().nbchat.settings
    nb.endpoints = {"script": nbchat.ScriptedTransport(*answers, **more)}
    nb.endpoint = "script"
    return nb.endpoints["script"]

def sent(number=-1):
    return get_ipython().nbchat.settings.endpoints["script"].requests[number].body()

def add(a: int, b: int = 1) -> int:
    "Add two numbers."
    print("adding", a, "and", b)
    return a + b

def product(a: int, b: int) -> int:
    "Multiply two numbers."
    return a * b

def boom(x: int) -> None:
    raise LookupError(f"no row {x}")
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_of(tmp_path_factory.mktemp("tools")) as kernel:
        kernel.run(SETUP)
        yield kernel


def shown(cell: Cell) -> list[tuple[str, str]]:
    """Return the saved outputs in order, as (kind, text)."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found.append((output.name, re.sub(r"\x1b\[[0-9;]*m", "", output.text)))
        elif output.output_type == "error":
            found.append(("error", output.ename))
        elif "image/png" in output.data:
            found.append(("figure", ""))
        elif "nbchat" in output.data.get("text/html", ""):
            found.append(("answer", output.data["text/plain"]))
        else:
            found.append((output.output_type, output.data.get("text/plain", "")))
    return [one for one in found if one[1] or one[0] in ("answer", "figure")]


def question(what: str, tool: str = "run_python") -> str:
    """Return the question about a call."""
    return f"Run {what}? [y]es, [n]o, [e]dit, [a]lways ({tool}, in this notebook until the kernel ends): "


# A live view and what nbclient gets: with the id of a cell, and without.
LIVE_AND_NOT = pytest.mark.parametrize("cell_id", ["a-cell", None], ids=["live", "unattended"])


@LIVE_AND_NOT
def test_a_turn_whose_tools_show_nothing_is_one_output(kernel: Kernel, cell_id: str | None):
    """It contains the text, the calls with their results, and the record of the whole turn."""
    kernel.run('_ = script(["Let me see.", {"tool": "product", "input": {"a": 2, "b": 3}}], "It is **6**.")')
    cell = kernel.run("%%claude answer << --tools product\n2 * 3?", cell_id)
    html, told = cell.answer.data["text/html"], cell.answer.metadata["nbchat"]
    parts = ("Let me see.", "Tool call: product(a=2, b=3)", "<p>Result</p>", ">6</code>", "It is <strong>6</strong>.")
    assert sorted(parts, key=html.index) == list(parts)
    assert told["status"] == "complete"
    assert cell.answer.data["text/plain"] == "Let me see.\n\n→ product(a=2, b=3)\n\nIt is **6**."


@LIVE_AND_NOT
def test_the_prints_of_a_tool_are_under_its_call(kernel: Kernel, cell_id: str | None):
    """Text, call, print, result and the rest of the answer are in the order in which they happened."""
    kernel.run('_ = script(["Let me add.", {"tool": "add", "input": {"a": 1, "b": 2}}], "It is **3**.")')
    cell = kernel.run("%%claude answer << --tools add\n1 + 2?", cell_id)
    assert shown(cell) == [
        ("answer", "Let me add.\n\n→ add(a=1, b=2)"),
        ("stdout", "adding 1 and 2\n"),
        ("answer", "It is **3**."),
    ]
    first, _, last = cell.outputs
    assert "Tool call: add" in first.data["text/html"]
    assert "<summary>Result: 3</summary>" in last.data["text/html"]
    assert not any("widget" in mime for output in cell.outputs if "data" in output for mime in output.data)
    assert kernel.value("answer.text") == "Let me add.\n\nIt is **3**."


@LIVE_AND_NOT
def test_several_calls_have_their_own_outputs(kernel: Kernel, cell_id: str | None):
    """Parallel calls run one after the other. The traceback of an error is under its own call."""
    kernel.run(
        """_ = script([{"tool": "add", "input": {"a": 1}}, {"tool": "boom", "input": {"x": 7}},
                        {"tool": "add", "input": {"a": 5}}], "Done.")"""
    )
    cell = kernel.run("%%claude --tools add,boom\ngo", cell_id)
    kinds = [kind for kind, _ in shown(cell)]
    assert kinds == ["answer", "stdout", "answer", "stderr", "answer", "stdout", "answer"]
    said = [text for _, text in shown(cell)]
    assert said[0] == "→ add(a=1)"
    assert said[2] == "→ boom(x=7)"
    assert "LookupError: no row 7" in said[3]
    assert "nbchat" not in said[3].replace("nbchat-", "")
    assert said[4] == "→ add(a=5)"
    assert said[6] == "Done."
    assert cell.reply["status"] == "ok"


def test_the_response_shows_the_whole_turn_again(kernel: Kernel):
    """It is one output, with the results in the cards of their calls."""
    kernel.run('_ = script(["Adding.", {"tool": "add", "input": {"a": 1}}], "It is 2.")')
    kernel.run("%%claude answer << --tools add\ngo")
    html = kernel.run("%nbchat show answer").answer.data["text/html"]
    assert html.index("Adding.") < html.index("Tool call: add") < html.index("Result") < html.index("It is 2.")


def test_an_interrupt_in_a_tool_stops_the_turn_and_the_next_cell_goes_on(kernel: Kernel):
    """The cell fails with KeyboardInterrupt, and the next request is valid."""
    kernel.run(
        """
import time
def wait():
    print("waiting")
    time.sleep(60)
_ = script(["One moment.", {"tool": "wait"}, {"tool": "add", "input": {"a": 1}}], "Fine.")"""
    )
    parent = kernel.start("%%claude --tools wait,add -c waiting\ngo", "waiting-cell")

    def watch(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and "waiting" in message["content"]["text"]:
            kernel.interrupt()

    cell = kernel.finish(parent, watch)
    assert cell.reply["status"] == "error"
    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert kernel.value("_claude.status") == "interrupted"
    kernel.run("%%claude -c waiting\nand now?", "another-cell")
    last = kernel.value("sent()['messages']")
    assert last == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "One moment."},
        {"role": "user", "content": "and now?"},
    ]
    assert kernel.value("_claude.text") == "Fine."


# -- run_python -----------------------------------------------------------------------------------

PLOT = "import matplotlib.pyplot as plt\nprint('plotting')\nfig, ax = plt.subplots(figsize=(1, 1))\n_ = ax.plot([1, 2])"


@LIVE_AND_NOT
def test_code_runs_in_the_namespace_with_its_outputs_under_it(kernel: Kernel, cell_id: str | None):
    """Prints, the last value and a figure are shown and sent to Claude. The variables exist afterwards."""
    kernel.run(
        f"""
code = "total = 6 * 7\\nprint('hm')\\ntotal"
_ = script(["First some numbers.", {{"tool": "run_python", "input": {{"code": code}}}}],
           [{{"tool": "run_python", "input": {{"code": {PLOT!r}}}}}], "There it is.")"""
    )
    cell = kernel.run("%%claude --run --approve always\nload sales.csv and plot revenue by month", cell_id)
    assert [kind for kind, _ in shown(cell)] == [
        "answer", "stdout", "execute_result", "answer", "stdout", "figure", "answer",
    ]  # fmt: skip
    assert shown(cell)[2] == ("execute_result", "42")
    first = cell.outputs[0].data["text/html"]
    assert '<details open="">' in first
    assert "total" in first
    assert kernel.value("total") == 42
    results = kernel.value("[part for one in sent()['messages'][-1]['content'] for part in one['content']]")
    assert results[0]["text"].startswith("plotting")
    assert results[1]["type"] == "image"
    assert kernel.value("sent(1)['messages'][-1]['content'][0]['content'][0]['text']") == "hm\n42"


def test_run_python_asks_and_takes_yes(kernel: Kernel):
    """It shows the code, asks on one line, and runs it."""
    kernel.run('_ = script({"tool": "run_python", "input": {"code": "agreed = 1"}}, "Done.")')
    cell = kernel.run("%%claude --run\ngo", answers=["y"])
    assert cell.questions == [question("1 line of Python")]
    assert shown(cell) == [("answer", "→ run_python(1 line) · allowed\n→     agreed = 1"), ("answer", "Done.")]
    assert "<p>Result</p>" in cell.outputs[0].data["text/html"]
    assert kernel.value("agreed") == 1


def test_code_is_shown_once_above_the_question(kernel: Kernel):
    """The card is a plain output when the question is asked, and the outputs of the code are under it."""
    kernel.run("""_ = script({"tool": "run_python", "input": {"code": "print('x' * 3)\\n2 * 3"}}, "Done.")""")
    parent = kernel.start("%%claude --run\ngo", "asked-cell", answers=["y"])
    before: list[str] = []

    def watch(message: dict[str, Any]) -> None:
        data = message["content"].get("data") or {}
        if "text/plain" in data and "run_python" in data["text/plain"]:
            before.append(data["text/plain"])

    cell = kernel.finish(parent, watch)
    assert before[0] == "→ run_python(2 lines)\n→     print('x' * 3)\n→     2 * 3"
    head, *code = before[0].split("\n")
    assert before[-1] == "\n".join([f"{head} · allowed", *code])
    assert shown(cell) == [
        ("answer", before[-1]), ("stdout", "xxx\n"), ("execute_result", "6"), ("answer", "Done."),
    ]  # fmt: skip
    assert "Result" not in cell.outputs[-1].data["text/html"]  # the outputs are the result


def test_run_python_takes_no_with_a_reason(kernel: Kernel):
    """Nothing runs, and Claude is told why."""
    kernel.run('_ = script({"tool": "run_python", "input": {"code": "refused = 1"}}, "As you like.")')
    cell = kernel.run("%%claude --run\ngo", answers=["n use pandas instead"])
    assert shown(cell)[0][1].startswith("→ run_python(1 line) · declined: use pandas instead\n")
    assert not any("Error" in output.data["text/html"] for output in cell.outputs)
    assert kernel.value("'refused' in globals()") is False
    result = kernel.value("sent()['messages'][-1]['content'][0]")
    assert result["is_error"] is True
    assert "use pandas instead" in result["content"][0]["text"]


def test_an_edit_runs_what_the_user_typed(kernel: Kernel):
    """Claude learns that the code is not what it wrote."""
    kernel.run('_ = script({"tool": "run_python", "input": {"code": "edited = 1"}}, "Done.")')
    cell = kernel.run("%%claude --run\ngo", answers=["e", "1: edited = 2", "+1:", "+2: edited += 1", "", "y"])
    assert kernel.value("edited") == 3
    plain = "→ run_python(3 lines) · allowed as edited\n→     edited = 2\n→     \n→     edited += 1"
    assert shown(cell) == [("answer", plain), ("answer", "Done.")]
    assert "edited = 1" not in str(cell.outputs)
    assert "edited = 2" in kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']")


def test_always_is_asked_once_in_a_session(kernel: Kernel):
    """The next cell does not ask again, except with --approve ask. A function that is defined again is asked for."""
    define = """
@nbchat.tool(approve="ask")
def risky(x: int) -> int:
    return x
"""
    kernel.run(
        define
        + """
calls = [{"tool": "risky", "input": {"x": x}} for x in range(5)]
_ = script(calls[1], "1", calls[2], "2", calls[3], "3", calls[4], "4")"""
    )
    cell = kernel.run("%%claude\ngo", answers=["always"])
    assert cell.questions == [question("risky(x=1)", "risky")]
    mark = "allowed always for risky in this notebook"
    assert shown(cell)[0] == ("answer", f"→ risky(x=1) · {mark}")
    cell = kernel.run("%%claude\ngo on")
    assert shown(cell) == [("answer", f"→ risky(x=2) · {mark}\n\n2")]
    assert kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']") == "2"
    assert kernel.run("%nbchat approvals").stdout.splitlines()[1:] == ["  risky"]
    cell = kernel.run("%%claude --approve ask\ngo on", answers=["y"])
    assert len(cell.questions) == 1
    kernel.run(define)
    cell = kernel.run("%%claude\ngo on", answers=["n"])
    assert len(cell.questions) == 1
    assert "no tool is allowed always" in kernel.run("%nbchat approvals").stdout


@pytest.mark.parametrize("taken_back", ["%nbchat reset", "%nbchat approvals clear", "%config Nbchat.approve = 'ask'"])
def test_always_is_taken_back(kernel: Kernel, taken_back: str):
    """A later setting replaces an earlier "always"."""
    calls = [{"tool": "run_python", "input": {"code": f"taken = {number}"}} for number in range(3)]
    kernel.run(f'_ = script({calls[0]}, "1", {calls[1]}, "2", {calls[2]}, "3")')
    try:
        assert len(kernel.run("%%claude --run\ngo", answers=["always"]).questions) == 1
        assert kernel.run("%%claude --run\ngo on").questions == []
        kernel.run(taken_back)
        assert len(kernel.run("%%claude --run\ngo on", answers=["n"]).questions) == 1
        assert kernel.value("taken") == 1
    finally:
        kernel.run("%config Nbchat.approve = None\n%nbchat approvals clear\n%nbchat reset")


@LIVE_AND_NOT
def test_where_nobody_can_answer_the_answer_is_no(kernel: Kernel, cell_id: str | None):
    """The user learns how to allow it, Claude learns that it did not run, and the turn ends in text."""
    kernel.run('_ = script({"tool": "run_python", "input": {"code": "unasked = 1"}}, "I would have set a variable.")')
    cell = kernel.run("%%claude --run\ngo", cell_id)
    (_, plain), *rest = shown(cell)
    assert "· declined: it needs your approval, and nobody can type an answer here" in plain
    assert "--approve always" in plain
    assert rest == []
    assert cell.stdout == ""
    assert kernel.value("'unasked' in globals()") is False
    assert "nobody to ask" in kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']")
    assert plain.endswith("→     unasked = 1\n\nI would have set a variable.")


def test_code_that_asks_claude_does_not_run(kernel: Kernel):
    """The model may not start a turn within its turn. The call is refused, and the turn continues."""
    kernel.run("""_ = script({"tool": "run_python", "input": {"code": "%claude hello"}}, "Right.")""")
    kernel.run("%%claude --run --approve always\ngo")
    assert "calls Claude itself" in kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']")


def test_a_function_of_the_user_may_ask(kernel: Kernel):
    """``nbchat.ask`` within a tool is a conversation of its own. The cell's has only the outer turn."""
    kernel.run(
        """
def consult(question: str) -> str:
    return nbchat.ask(question).text
_ = script({"tool": "consult", "input": {"question": "why?"}}, "Because.", "He says: because.")
"""
    )
    kernel.run("%%claude --tools consult -c fresh\nask him", "consulting")
    assert kernel.value("_claude.text") == "He says: because."
    assert kernel.value("[one['content'] for one in sent(1)['messages']]")[-1] == "why?"
    assert [row[0] for row in table_of(kernel.run("%nbchat history fresh"))] == ["turn", "1"]


@LIVE_AND_NOT
def test_a_function_that_prints_what_it_returns_shows_it_once(kernel: Kernel, cell_id: str | None):
    """The print is the result. Another text that the function returns is shown as its result."""
    kernel.run(
        """
def report(city: str, more: str = "") -> str:
    print(f"rain in {city}")
    return f"rain in {city}{more}"
calls = [{"tool": "report", "input": {"city": "Oslo"}}, {"tool": "report", "input": {"city": "Bonn", "more": ", 4 mm"}}]
_ = script(calls, "It rains.")
"""
    )
    cell = kernel.run("%%claude --tools report\nthe weather?", cell_id)
    kinds, texts = zip(*shown(cell), strict=True)
    assert (kinds, texts[1::2]) == (("answer", "stdout") * 2 + ("answer",), ("rain in Oslo\n", "rain in Bonn\n"))
    html = "".join(output.data["text/html"] for output in cell.outputs if output.output_type == "display_data")
    assert "rain in Oslo" not in html
    assert html.count("Result: rain in Bonn, 4 mm") == 1  # the head of the fold
    assert kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']") == "rain in Oslo"


# -- --code, --fix, --explain ---------------------------------------------------------------------


def payloads(cell: Cell) -> list[dict[str, Any]]:
    return [one for one in cell.reply["payload"] if one["source"] == "set_next_input"]


def test_code_goes_into_a_new_cell(kernel: Kernel):
    """The payload works in JupyterLab, Notebook 7 and VS Code. The output then says nothing about the code."""
    kernel.run('_ = script("Two steps:\\n```python\\na = 1\\n```\\nand\\n```python\\nb = 2\\n```\\n")')
    cell = kernel.run("%%claude --code\ngo")
    assert payloads(cell) == [{"source": "set_next_input", "text": "a = 1\n\nb = 2", "replace": False}]
    assert cell.stdout == ""
    assert kernel.value("_claude.code") == "a = 1\n\nb = 2"


def test_code_is_shown_to_copy_where_no_cell_may_appear(kernel: Kernel):
    """nbclient and papermill ignore the payload."""
    kernel.run('_ = script("```python\\na = 1\\n```")')
    cell = kernel.run("%%claude --code\ngo", None)
    assert "copy this into one:\n\na = 1" in cell.stdout


def test_an_answer_without_code_says_so(kernel: Kernel):
    """It does not add an empty cell."""
    kernel.run('_ = script("No code needed.")')
    cell = kernel.run("%%claude --code\ngo")
    assert payloads(cell) == []
    assert "no fenced code" in cell.stdout


@pytest.mark.parametrize(
    ("line", "remark"), [("%claude --fix", ""), ("%%claude --fix\nprices may be missing", "prices may be missing")]
)
def test_fix_sends_the_error_and_puts_the_repaired_cell_below(kernel: Kernel, line: str, remark: str):
    """The prompt has the source of the cell, the traceback, the values of the failing line, and any remark."""
    kernel.run("prices = {'tea': 3}\nitem = 'coffee'\nprices[item]", fails=True)
    kernel.run("_ = script('It was not there:\\n```python\\nprices.get(item)\\n```')")
    cell = kernel.run(line)
    prompt = kernel.value("_claude.prompt")
    for part in ("KeyError", "prices[item]", "item = 'coffee'", "{'tea': 3}", remark):
        assert part in prompt
    assert payloads(cell)[0]["text"] == "prices.get(item)"


def test_explain_sends_the_error_and_adds_no_cell(kernel: Kernel):
    """Only the explanation."""
    kernel.run("1 / 0", fails=True)
    kernel.run("_ = script('Nobody can divide by zero.')")
    cell = kernel.run("%claude --explain")
    assert "ZeroDivisionError" in kernel.value("_claude.prompt")
    assert "Explain" in kernel.value("_claude.prompt")
    assert payloads(cell) == []
    assert shown(cell) == [("answer", "Nobody can divide by zero.")]


# -- structured answers, MCP ----------------------------------------------------------------------


@LIVE_AND_NOT
def test_a_structured_answer_is_a_table(kernel: Kernel, cell_id: str | None):
    """The one output is a table with the JSON as its plain text. The instances are in ``.parsed``."""
    kernel.run(
        """
from dataclasses import dataclass
@dataclass
class City:
    name: str
    people: int
_ = script('{"items": [{"name": "Bonn", "people": 331000}, {"name": "Kiel", "people": 248000}]}')"""
    )
    cell = kernel.run("%%claude cities << --schema list[City]\nTwo cities", cell_id)
    assert ">people</th>" in cell.answer.data["text/html"]
    assert kernel.value("cities.parsed[1].people") == 248_000
    assert kernel.value("list(cities.table().columns)") == ["name", "people"]


def test_a_structured_answer_grows_as_a_table_while_it_streams(kernel: Kernel):
    """The live view shows rows, not JSON, before the answer is complete."""
    rows = ", ".join(f'{{"name": "City {n}", "people": {n}}}' for n in range(40))
    kernel.run(f"_ = script('{{\"items\": [{rows}]}}', delay=0.01)")
    cell = kernel.run("%%claude --schema list[City]\nForty cities")
    values = [
        one["data"]["state"]["value"]
        for one in cell.of("comm_msg")
        if one["data"].get("method") == "update" and "value" in one["data"]["state"]
    ]
    counts = [value.count("<tr>") for value in values if "<table>" in value]
    assert len(counts) > 1
    assert counts == sorted(counts)
    assert counts[0] < 41
    assert not any("items" in value for value in values)
    assert cell.answer.data["text/html"].count("<tr>") == 41


def test_an_mcp_server_is_added_used_and_removed(kernel: Kernel, tmp_path: Path):
    """Its tools have the server's name before theirs, and ask before they run."""
    import mcp.server.mcpserver  # noqa: F401

    server = tmp_path / "my server.py"
    server.write_text(
        textwrap.dedent(
            """
            from mcp.server.mcpserver import MCPServer
            server = MCPServer("test")
            @server.tool()
            def double(n: int) -> int:
                "Twice as much."
                return 2 * n
            server.run("stdio")
            """
        )
    )
    cell = kernel.run(f"%nbchat mcp add numbers {sys.executable} '{server}'")
    assert "numbers offers 1 tool: numbers.double" in cell.stdout
    head, row = table_of(kernel.run("%nbchat mcp list"))
    assert head == ["tool", "server", "state", "target"]
    assert row[:3] == ["numbers.double", "numbers", "runs"]
    kernel.run('_ = script({"tool": "numbers__double", "input": {"n": 21}}, "42.")')
    cell = kernel.run("%%claude --tools numbers.double\ntwice 21?", answers=["y"])
    assert cell.questions == [question("numbers.double(n=21)", "numbers.double")]
    assert shown(cell)[0] == ("answer", "→ numbers.double(n=21) · allowed")
    assert kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']") == "42"
    kernel.run("%nbchat mcp remove numbers")
    assert "no MCP servers" in kernel.run("%nbchat mcp").stdout
    cell = kernel.run("%%claude --tools numbers.double\nagain?", fails=True)
    assert "numbers is not defined" in "\n".join(cell.error)


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize(
    "line", ["%nbchat mcp add slow {command}", "%%claude --tools slow\nHi"], ids=["as it is added", "as it restarts"]
)
def test_an_interrupt_ends_the_start_of_a_slow_server(kernel: Kernel, tmp_path: Path, line: str, presses: int):
    """The cell shows one line, and the process is gone, also one that ignores the end of its input and SIGTERM."""
    import mcp.server.mcpserver  # noqa: F401

    started, server, mute = tmp_path / "pid", tmp_path / "server.py", tmp_path / "mute.py"
    server.write_text(
        f"import os, pathlib, signal, sys, time\nmute = pathlib.Path({str(mute)!r}).exists()\n"
        f"if mute:\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"    pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n    time.sleep(600)\n"
        "from mcp.server.mcpserver import MCPServer\nserver = MCPServer('test')\nserver.run('stdio')\n"
    )
    command = f"{sys.executable} '{server}'"
    if "{command}" not in line:
        kernel.run(f"%nbchat mcp add slow {command}")
        kernel.run("slow = get_ipython().nbchat.session.mcp._servers['slow']; slow.stop()")
    mute.touch()
    parent = kernel.start(line.format(command=command))
    wait_for(lambda: started.exists() and started.read_text())
    for _ in range(presses):
        kernel.interrupt()
        time.sleep(0.2)
    cell = kernel.finish(parent)
    assert cell.reply["status"] == "error"
    (shown,) = cell.error
    assert shown.startswith("KeyboardInterrupt: stopped; ")
    assert cell.stdout == ""
    pid = int(started.read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())
    kernel.run(
        "for name in [server.name for server in get_ipython().nbchat.session.mcp.list()]:\n"
        "    get_ipython().nbchat.session.mcp.remove(name)"
    )
    assert kernel.value("1 + 1") == 2
