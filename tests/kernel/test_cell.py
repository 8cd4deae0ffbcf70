"""Run ``%%claude`` in a real ipykernel. The prompt tells the server how to answer."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.harness import Cell, Kernel, kernel_of
from tests.support.quick_kernels import FRESH
from tests.support.server import Received, Server, Wire, message, serving, start, text_delta, text_events

HOSTILE = """<script>alert(1)</script> <img src=x onerror=alert(2)> <b onclick=alert(3)>bold</b>

<iframe srcdoc="<script>alert(4)</script>"></iframe>

[link](javascript:alert(5)) ![image](https://evil.example/x.png)
"""
HOLD = 30.0  # seconds that the server holds a connection that nobody closes


def last_words(request: Received) -> str:
    """Return the text of the last message."""
    content = request.body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def answer(wire: Wire, request: Received) -> None:
    """Answer as the prompt tells, or repeat the prompt."""
    said = last_words(request)
    if said == "wait before the headers":
        wire.gone(HOLD)
        return
    if request.path.endswith("/count_tokens"):
        wire.json("200 OK", {"input_tokens": 123} if said != "uncounted" else {"what": "is this"})
        return
    if said.startswith("have no room"):
        if said.endswith("after a while"):
            time.sleep(1.0)
        wire.json("529 Overloaded", {"type": "error", "error": {"type": "overloaded_error", "message": "no room"}})
        return
    text = HOSTILE if said == "be hostile" else f"# You said\n\n{said}, **and** so on.\n"
    if not request.body.get("stream"):
        reply = message([{"type": "text", "text": text}])
        wire.json("200 OK", reply | {"usage": {"input_tokens": 10, "output_tokens": len(pieces(text))}})
        return
    wire.head()
    if said in ("flow", "wait", "break"):
        wire.event(start())
        wire.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        wire.event(text_delta("Some words "))
        if said == "wait":
            wire.gone(HOLD)
        if said == "flow":
            for _ in range(int(HOLD / 0.02)):
                time.sleep(0.02)
                wire.event(text_delta("and more "))
        wire.reset()
        return
    for event in text_events(pieces(text)):
        wire.event(event)
    wire.end()


def pieces(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(0, len(text), 5)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(answer) as server:
        yield server


@pytest.fixture(scope="module")
def one_kernel(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    home = tmp_path_factory.mktemp("kernel")
    with kernel_of(home, NBCHAT_ENDPOINT=server.url, NBCHAT_MAX_RETRIES="0") as kernel:
        kernel.run("%load_ext nbchat")
        yield kernel


@pytest.fixture
def kernel(one_kernel: Kernel, server: Server) -> Kernel:
    """Return the kernel without a conversation, and empty the server's list of requests."""
    one_kernel.run("%nbchat reset")
    server.requests.clear()
    return one_kernel


# --- asking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell_id", ["a-cell", None])
def test_a_cell_shows_its_answer_and_binds_the_response(kernel: Kernel, cell_id: str | None):
    """A cell shows its answer and binds the Response, with a cell id (JupyterLab, VS Code) and without (nbclient)."""
    cell = kernel.run("%%claude\nHello", cell_id)
    assert cell.answer.data["text/plain"] == "# You said\n\nHello, **and** so on.\n"
    assert "<strong>and</strong>" in cell.answer.data["text/html"]
    told = kernel.value("[_claude.text, _claude.status, _claude.usage.prompt_tokens, _claude.usage.completion_tokens]")
    assert told == ["# You said\n\nHello, **and** so on.\n", "complete", 10, 7]
    assert cell.answer.metadata["nbchat"]["usage"]["total_tokens"] == 17


def test_without_a_cell_id_nothing_is_live(kernel: Kernel):
    """Without a cell id there is one display_data and no live view, so that nbval can compare the output."""
    cell = kernel.run("%%claude\nHello", None)
    kinds = [message["msg_type"] for _, message in cell.messages]
    assert kinds == ["status", "execute_input", "display_data", "status"]


@pytest.mark.parametrize(
    "code",
    [
        "%%claude name <<\nHello",
        "%%claude name << --once\nHello",
        "%%claude -o name\nHello",
        "%%claude -o name Hello",
        "%claude name << Hello",
        "%claude -o name Hello",
        "name = %claude Hello",
        "if True:\n    name = %claude Hello",
        "%claude -o name -- Hello",
    ],
)
def test_a_response_is_bound_to_the_name(kernel: Kernel, code: str):
    """``<<``, ``-o`` and an assignment bind the Response, and ``_claude`` is always bound."""
    cell = kernel.run("name = None\nname = None")
    cell = kernel.run(code)
    assert "Hello" in cell.answer.data["text/plain"]
    assert kernel.value("[name is _claude, name.text, name.prompt]") == [True, cell.answer.data["text/plain"], "Hello"]


@pytest.mark.parametrize(
    ("code", "prompt"),
    [
        ("%%claude Why is it so?", "Why is it so?"),
        ("%%claude Why is it so?\n", "Why is it so?"),
        ("%claude Why is it so?", "Why is it so?"),
        ("%claude what's (not closed", "what's (not closed"),
        ("%claude {x} and $x mean nothing", "{x} and $x mean nothing"),
        ("x = 1\n%claude what is x?", "what is x?"),
        ("if True:\n    %claude what is x?\nx = 2", "what is x?"),
        ("!true isn't \"\n%claude what is x?", "what is x?"),
        ("%%claude About this:\n\nline one\nline two?", "About this:\n\nline one\nline two?"),
        ("%%claude\nall of\n\nthis ?", "all of\n\nthis ?"),
        ("%%claude\n\n    indented\n\n", "    indented"),
        ("x = 6\n%claude {{ x * 7 }} is what?", "42 is what?"),
        ("%claude one \\\ntwo", "one two"),
        ("%claude one \\ \n  two \\\nthree?\nx = 2", "one two three?"),
        ("res = %claude one \\\ntwo\nassert res.prompt == 'one two'", "one two"),
        ("if True:\n    res = %claude one \\\n        two?\nassert res.text", "one two?"),
        ("%%time\nres = %claude one \\\ntwo", "one two"),
        ("%%claude --max-tokens 100 \\\n  --once\nC:\\dir\\", "C:\\dir\\"),
    ],
)
def test_the_prompt_is_sent_unchanged(kernel: Kernel, server: Server, code: str, prompt: str):
    """The prompt may be on the line, below the line, or both. A question mark at its end does not ask for help."""
    cell = kernel.run(code)
    assert last_words(server.requests[-1]) == prompt
    assert cell.help == ""


def test_lines_inside_a_string_are_not_prompts(kernel: Kernel, server: Server):
    """Text that looks like a prompt is not changed inside a string."""
    cell = kernel.run('text = """\n%claude what is this?\nname = %claude Hello\n"""\nprint(text)')
    assert cell.stdout == "\n%claude what is this?\nname = %claude Hello\n\n"
    assert server.requests == []


def test_a_forgotten_binding_is_said_beside_the_answer(kernel: Kernel):
    """The hint is a note of the answer, so that it can be read when the answer is there, and later."""
    hint = "'answer' is a part of the prompt; to bind the Response to a variable, write answer <<"
    cell = kernel.run("%%claude answer\nHello")
    assert hint in html.unescape(cell.answer.data["text/html"])
    assert kernel.value("list(_claude.notes)") == [hint]
    assert kernel.value("'answer' in globals()") is False


def test_a_cell_that_runs_again_replaces_its_turn(kernel: Kernel, server: Server):
    """Each turn belongs to a cell. A cell that asks twice has two turns."""
    kernel.run("%%claude\nfirst", "one")
    kernel.run("%%claude\nsecond", "two")
    kernel.run("%%claude\nfirst again", "one")
    kernel.run("for word in ('a', 'b'):\n    %claude {{ word }}", "three")
    kernel.run("for word in ('a', 'c'):\n    %claude {{ word }}", "three")
    users = [[part["content"] for part in request.body["messages"][::2]] for request in server.requests]
    assert users == [
        ["first"],
        ["first", "second"],
        ["first again"],
        ["first again", "second", "a"],
        ["first again", "second", "a", "b"],
        ["first again", "second", "a"],
        ["first again", "second", "a", "c"],
    ]


def test_quiet_shows_nothing_and_binds_the_response(kernel: Kernel):
    """``--quiet`` shows neither the live view nor the answer, and binds the Response."""
    cell = kernel.run("%%claude r << --quiet\nHello")
    assert [message["msg_type"] for _, message in cell.messages] == ["status", "execute_input", "status"]
    assert "Hello" in kernel.value("r.text")


def test_an_answer_without_streaming_is_the_same_response(kernel: Kernel, server: Server):
    """The Response and the output of ``--no-stream`` are the same as with a stream."""
    streamed = kernel.run("%%claude a << --once\nHello")
    whole = kernel.run("%%claude b << --once --no-stream\nHello")
    assert [request.body.get("stream", False) for request in server.requests] == [True, False]
    assert whole.answer == streamed.answer
    differ = kernel.value("[k for k in a.to_dict() if a.to_dict()[k] != b.to_dict()[k]]")
    assert set(differ) <= {"duration", "time_to_first_chunk"}
    kinds = "list(dict.fromkeys(chunk.type for chunk in {}.chunks))"
    assert kernel.value(kinds.format("a")) == kernel.value(kinds.format("b"))


@pytest.mark.parametrize(("prompt", "tokens"), [("{{ x }} words", "123 tokens (counted"), ("uncounted", "(estimated)")])
def test_a_dry_run_sends_nothing(kernel: Kernel, server: Server, prompt: str, tokens: str):
    """The dry run shows the request, even if the endpoint counts tokens in an unexpected format."""
    cell = kernel.run(f"x = 3\n%claude --dry-run -s Sys. {prompt}")
    assert prompt.replace("{{ x }}", "3") in cell.stdout
    assert "Sys." in cell.stdout
    assert tokens in cell.stdout
    assert {request.path.rpartition("/")[2] for request in server.requests} == {"count_tokens"}


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name", "lines"),
    [
        ("%%claude --modle x\nHello", "OptionError", ["unknown option --modle", "Did you mean --model?"]),
        (
            "%claude --max-tokens many Hello",
            "OptionError",
            ["--max-tokens many: a whole number of at least 1 is needed"],
        ),
        ("%claude Hello --quiet", "OptionError", ["--quiet comes after the beginning of the prompt"]),
        ("%%claude 2x <<\nHello", "OptionError", ["'2x' cannot be the name of a variable"]),
        ("%%claude", "InputError", ["there is no prompt, so nothing was sent"]),
        ("%%claude -m other\n\n", "InputError", ["there is no prompt, so nothing was sent"]),
        ("%claude {{ nam }}", "TemplateError", ["{{ nam }} in line 1 of the prompt: name 'nam' is not defined"]),
    ],
)
def test_a_mistake_of_the_user_is_two_lines(kernel: Kernel, server: Server, code: str, name: str, lines: list[str]):
    """The error says what happened and what to do, without a traceback. Nothing is sent."""
    kernel.run("name = 1")
    cell = kernel.run(code, fails=True)
    assert cell.reply["ename"] == name
    assert len(cell.error) == 2
    assert cell.error[0].startswith(f"{name}: {lines[0]}")
    assert cell.error[1].startswith(lines[1] if lines[1:] else "")
    assert cell.error[1].strip()
    assert [output.output_type for output in cell.outputs] == ["error"]
    assert server.requests == []


def test_a_refused_request_is_two_lines(kernel: Kernel):
    """The output has two lines, without a traceback through the SDK and without an empty answer."""
    cell = kernel.run("%%claude\nhave no room", fails=True)
    assert cell.reply["ename"] == "OverloadedError"
    assert cell.error[0] == "OverloadedError: the endpoint answered 529 overloaded_error: no room"
    assert len(cell.error) == 2
    assert [output.output_type for output in cell.outputs] == ["error"]


@pytest.mark.parametrize("cell_id", ["a-cell", None])
def test_a_partial_answer_is_kept(kernel: Kernel, server: Server, cell_id: str | None):
    """The partial answer is shown, marked and bound. The cell fails, and the next cell sends a valid history."""
    cell = kernel.run("%%claude part <<\nbreak", cell_id, fails=True)
    answer, error = cell.outputs
    assert (answer.output_type, error.ename) == ("display_data", "StreamError")
    assert answer.data["text/plain"].startswith("Some words ")
    assert answer.metadata["nbchat"]["status"] == "incomplete"
    assert len(cell.error) == 2
    assert kernel.value("[part is _claude, part.text, bool(part)]") == [True, "Some words ", False]
    kernel.run("%%claude\nHello", "another")
    assert_valid(server.requests[-1])


def test_a_failing_cell_stops_run_all(kernel: Kernel):
    """A failing cell cancels the cells in the queue."""
    # A kernel aborts what has arrived when the cell fails: the while is for the second cell to arrive.
    parents = [kernel.start("%%claude\nhave no room after a while"), kernel.start("ran = True")]
    cells = [kernel.finish(parent) for parent in parents]
    assert [cell.reply["status"] for cell in cells] == ["error", "aborted"]


def test_a_server_that_cannot_be_reached(kernel: Kernel):
    """The error names the server, and says how to choose another endpoint."""
    cell = kernel.run("%%claude --endpoint http://127.0.0.1:9\nHello", fails=True)
    assert cell.reply["ename"] == "ConnectionFailed"
    assert len(cell.error) == 2
    assert "127.0.0.1:9" in cell.error[0] + cell.error[1]


def assert_valid(request: Received) -> None:
    """Assert that the roles alternate and no message is empty."""
    messages = request.body["messages"]
    assert [part["role"] for part in messages] == (["user", "assistant"] * len(messages))[: len(messages)]
    assert messages[-1]["role"] == "user"
    assert all(part["content"] and str(part["content"]).strip() for part in messages)


# --- interrupts -----------------------------------------------------------------------------------


def interrupted(kernel: Kernel, server: Server, code: str, cell_id: str | None) -> tuple[Cell, float]:
    """Interrupt a cell a second after its request arrived. Return the cell, and the seconds until it was idle."""
    sent = len(server.requests)
    parent, stopped = kernel.start(code, cell_id), []

    def stop() -> None:
        while len(server.requests) == sent:
            time.sleep(0.01)
        time.sleep(1.0)
        stopped.append(kernel.interrupt())

    thread = threading.Thread(target=stop)
    thread.start()
    cell = kernel.finish(parent)
    thread.join()
    return cell, cell.messages[-1][0] - stopped[0]


@pytest.mark.parametrize("cell_id", ["a-cell", None])
@pytest.mark.parametrize("prompt", ["flow", "wait", "wait before the headers"])
def test_an_interrupt_keeps_what_arrived(kernel: Kernel, server: Server, prompt: str, cell_id: str | None):
    """The partial answer is kept if text is streaming, if the server fell silent, and if it never answered."""
    kernel.run("%%claude\nbefore", "first")
    cell, seconds = interrupted(kernel, server, f"%%claude part <<\n{prompt}", cell_id)
    assert cell.reply["status"] == "error"
    assert cell.reply["ename"] == "KeyboardInterrupt"
    # It takes half a second if nothing else runs (bench/kernel.py), and never as long as HOLD.
    assert seconds < HOLD / 2
    assert cell.error == ["KeyboardInterrupt: stopped; the answer up to here is in part"]
    began = prompt != "wait before the headers"
    shown = [output for output in cell.outputs if output.output_type == "display_data"]
    assert len(shown) == 1
    assert "interrupted" in shown[0].data["text/html"]
    assert shown[0].data["text/plain"].startswith("Some words " if began else "[interrupted]")
    assert shown[0].metadata["nbchat"]["status"] == "interrupted"
    told = kernel.value("[part is _claude, part.status, part.text[:11], bool(part), part.usage.estimated]")
    assert told == [True, "interrupted", "Some words " if began else "", False, began]
    after = kernel.run("%%claude\nHello", "another")
    assert "Hello" in after.answer.data["text/plain"]
    assert_valid(server.requests[-1])
    contents = [part["content"] for part in server.requests[-1].body["messages"]]
    assert contents[0] == "before"
    assert contents[-1] == "Hello"
    assert len(contents) == (5 if began else 3)  # a turn without an answer is not sent again


def test_an_interrupt_stops_run_all(kernel: Kernel, server: Server):
    """An interrupt cancels the cells in the queue."""
    sent = len(server.requests)
    parents = [kernel.start("%%claude\nflow"), kernel.start("ran = True")]
    while len(server.requests) == sent:
        time.sleep(0.01)
    time.sleep(1.0)  # the second cell arrives
    kernel.interrupt()
    cells = [kernel.finish(parent) for parent in parents]
    assert [cell.reply["status"] for cell in cells] == ["error", "aborted"]
    assert cells[0].reply["ename"] == "KeyboardInterrupt"


def test_the_connection_is_closed_by_an_interrupt(kernel: Kernel, tmp_path: Path):
    """An interrupt closes the connection, so the server can stop generating."""
    gone: list[bool] = []

    def hold(wire: Wire, request: Received) -> None:
        wire.head()
        wire.event(start())
        gone.append(wire.gone(HOLD))

    with serving(hold) as other:
        interrupted(kernel, other, f"%%claude --endpoint {other.url}\nHello", "a-cell")
        end = time.monotonic() + HOLD
        while not gone and time.monotonic() < end:
            time.sleep(0.05)
    assert gone == [True]


# --- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell_id", ["a-cell", None])
def test_hostile_text_is_never_sent_as_html_or_markdown(kernel: Kernel, cell_id: str | None):
    """Tags in the answer are shown as text, during and after the stream. No message has text/markdown."""
    cell = kernel.run("%%claude\nbe hostile", cell_id)
    assert cell.answer.data["text/plain"] == HOSTILE
    shown = [content["data"] for content in cell.of("display_data", "update_display_data")]
    values = [data.get(kind, "") for data in shown for kind in ("text/html", "text/latex")]
    values += [content["data"].get("state", {}).get("value", "") for content in cell.of("comm_open", "comm_msg")]
    for value in values:
        for tag in ("<script", "<img", "<iframe", "<b ", 'href="javascript'):
            assert tag not in value
    assert any("&lt;script&gt;" in value for value in values)
    assert {kind for data in shown for kind in data} <= {
        "text/html",
        "text/latex",  # which is inert as Markdown, too
        "text/plain",
        "application/vnd.jupyter.widget-view+json",
    }


def test_threads_and_tasks_of_other_cells_do_not_disturb(kernel: Kernel):
    """A cell gets its answer while threads print and use the processor, and while a task of the event loop runs."""
    kernel.run(
        "import asyncio, threading, time\n"
        "stop = threading.Event()\n"
        "def talk():\n"
        "    while not stop.wait(0.01):\n"
        "        print('talk')\n"
        "def work():\n"
        "    while not stop.is_set():\n"
        "        sum(range(1000))\n"
        "ticks = []\n"
        "async def tick():\n"
        "    while not stop.is_set():\n"
        "        ticks.append(1)\n"
        "        await asyncio.sleep(0.01)\n"
        "for target in (talk, work):\n"
        "    threading.Thread(target=target, daemon=True).start()\n"
        "task = asyncio.get_running_loop().create_task(tick())",
        "busy",
    )
    try:
        cell = kernel.run("%%claude\nHello", "quiet-cell")
        # ipykernel shows the prints of such a thread in the cell that runs.
        (shown,) = [output for output in cell.outputs if output.output_type != "stream"]
        assert "Hello" in shown.data["text/plain"]
        kernel.run("ticks.clear()\nawait asyncio.sleep(0.2)\nassert ticks")
        kernel.run("%%claude\nHello again", "quiet-cell")
    finally:
        kernel.run("stop.set()\nawait asyncio.sleep(0.2)")
    assert kernel.value("[_claude.prompt, _claude.status]") == ["Hello again", "complete"]


def test_a_name_never_holds_the_answer_of_a_thread(kernel: Kernel):
    """A thread asks all the time, and each cell binds the answer of its own turn."""
    kernel.run(
        "import nbchat, threading\n"
        "stop, answers = threading.Event(), []\n"
        "def ask():\n"
        "    while not stop.wait(0.01):\n"
        "        answers.append(nbchat.ask('of the thread', once=True).prompt)\n"
        "threads = [threading.Thread(target=ask) for _ in range(1)]\n"
        "for thread in threads: thread.start()",
        "busy",
    )
    try:
        for number in range(5):
            kernel.run(f"%%claude mine << --once\nof cell {number}", f"cell-{number}")
            held = kernel.value("[mine.prompt, _claude.prompt, 'of cell' in mine.text]")
            assert held == [f"of cell {number}", f"of cell {number}", True]
    finally:
        kernel.run("stop.set()\nfor thread in threads: thread.join()")
    assert set(kernel.value("answers")) == {"of the thread"}
    assert kernel.value("len(answers)") >= 5


def test_asking_in_an_async_cell(kernel: Kernel):
    """A cell can use ``await`` and ask."""
    cell = kernel.run("import asyncio\nawait asyncio.sleep(0)\n%claude Hello\nawait asyncio.sleep(0)")
    assert "Hello" in cell.answer.data["text/plain"]


# --- help, settings, the extension itself ---------------------------------------------------------


@pytest.mark.parametrize("code", ["%%claude?", "%claude?", "?%%claude"])
def test_help_has_every_option(kernel: Kernel, code: str):
    """The help shows each option of the table."""
    from nbchat.options import OPTIONS

    shown = kernel.run(code).help
    for option in OPTIONS:
        for flag in option.flags:
            assert f"{flag} " in shown.replace(",", " ").replace("\n", " \n"), flag
        assert " ".join(option.help.split()[:4]) in shown
    assert "%%claude [NAME <<] [options]" in shown
    assert "[]" not in shown


def test_settings_override_defaults_and_options_override_settings(kernel: Kernel, server: Server):
    """``%config Nbchat.model`` changes the model, and the help shows the new value."""
    try:
        assert kernel.run("%config Nbchat.model = 'set-model'").outputs == []
        kernel.run("%claude Hello")
        kernel.run("%claude -m named-model Hello")
        assert [request.body["model"] for request in server.requests] == ["set-model", "named-model"]
        assert "(now: set-model)" in kernel.run("%%claude?").help
        assert "set-model" in kernel.run("%config Nbchat.model").outputs[0].data["text/plain"]
    finally:
        kernel.run("%config Nbchat.model = 'claude-sonnet-5-5'")


def test_reloading_keeps_conversations_and_unloading_removes_the_magics(kernel: Kernel, server: Server):
    """%reload_ext keeps the conversations, and %unload_ext removes the magics."""
    kernel.run("%%claude\nfirst", "one")
    kernel.run("%reload_ext nbchat")
    kernel.run("%%claude\nsecond", "two")
    assert [part["content"] for part in server.requests[-1].body["messages"]][::2] == ["first", "second"]
    kernel.run("%unload_ext nbchat")
    assert "not found" in kernel.run("%claude Hello", fails=True).stdout
    assert "Nbchat" not in kernel.run("%config").stdout
    assert kernel.value("_claude.status") == "complete"
    kernel.run("%load_ext nbchat\n%load_ext nbchat")
    kernel.run("%%claude\nthird", "three")
    assert [part["content"] for part in server.requests[-1].body["messages"]][::2] == ["first", "second", "third"]
    assert kernel.run("%config").stdout.count("Nbchat") == 1


def test_a_first_cell_before_the_preload_is_done(server: Server, tmp_path: Path):
    """A cell with %load_ext and the first prompt works before the imports in the background are done."""
    with kernel_of(tmp_path, NBCHAT_ENDPOINT=server.url, **{FRESH: "1"}) as kernel:
        cell = kernel.run("%load_ext nbchat\n%claude Hello")
        assert "Hello" in cell.answer.data["text/plain"]


def test_the_model_of_a_configuration_file_and_of_the_environment(server: Server, tmp_path: Path):
    """NBCHAT_MODEL takes precedence over c.Nbchat.model. %nbchat config says where each value is set."""
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(
        "c.Nbchat.model = 'model-of-the-file'\nc.Nbchat.max_tokens = 99\n"
        f"c.Nbchat.endpoint = {server.url!r}\nc.InteractiveShellApp.extensions = ['nbchat']\n"
    )
    models = []
    for variables in ({}, {"NBCHAT_MODEL": "model-of-the-environment"}):
        with kernel_of(tmp_path, **variables) as kernel:
            kernel.run("%claude Hello")
            body = server.requests[-1].body
            assert body["max_tokens"] == 99
            models.append(body["model"])
            told = kernel.run("%nbchat config").stdout
            assert "configuration file" in told
            assert ("NBCHAT_MODEL" in told) == bool(variables)
    assert models == ["model-of-the-file", "model-of-the-environment"]


@pytest.mark.parametrize(
    ("variables", "settings", "said"),
    [
        ({"NBCHAT_MAX_TOKENS": "lots"}, "", "NBCHAT_MAX_TOKENS"),
        ({"NBCHAT_MAX_TOKENS": "-5"}, "", "NBCHAT_MAX_TOKENS"),
        ({}, "c.Nbchat.max_tokens = 'lots'", "max_tokens"),
        ({}, "c.Nbchat.modle = 'x'", "Nbchat.modle"),
    ],
)
def test_a_wrong_setting_is_reported_when_the_extension_loads(
    tmp_path: Path, variables: dict[str, str], settings: str, said: str
):
    """The error has two lines, without a traceback through traitlets."""
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(settings + "\n")
    with kernel_of(tmp_path, **variables) as kernel:
        cell = kernel.run("%load_ext nbchat", fails=True)
    assert cell.reply["ename"] == "OptionError"
    assert len(cell.error) == 2
    assert said in cell.error[0]
    assert cell.error[1]


CANARY = "sk-ant-api03-CANARY-0123456789abcdefghijklmnopqrstuvwxyz"


def test_the_key_is_in_no_message_and_no_file(tmp_path: Path):
    """The key is shown nowhere, although the service repeats it in an error before an answer and during an answer."""

    keys: set[str] = set()

    def repeat(wire: Wire, request: Received) -> None:
        key = request.headers["authorization"].removeprefix("Bearer ")
        keys.add(key)
        error = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key: {key}"}}
        said = last_words(request)
        if said == "refuse":
            wire.json("401 Unauthorized", error)
            return
        wire.head()
        for place, event in enumerate(text_events(["Hello"])):
            if place == 3 and said == "break":
                wire.event(error)
                return
            wire.event(event)
        wire.end()

    with (
        serving(repeat) as server,
        kernel_of(tmp_path, ANTHROPIC_API_KEY=CANARY + "\n", ANTHROPIC_BASE_URL=server.url) as kernel,
    ):
        kernel.run("%load_ext nbchat")
        for code, fails in (
            ("%%claude\nhi", False),
            ("%%claude\nrefuse", True),
            ("%%claude\nbreak", True),
            ("%nbchat config", False),
            ("%nbchat endpoints", False),
            ("%nbchat history", False),
            ("%claude --dry-run hi", False),
            ("_claude", False),
            ("vars(get_ipython().nbchat.session)", False),
            ("raise ValueError(_claude)", True),
            ("%claude --no-stream refuse", True),
        ):
            kernel.run(code, fails=fails)
        assert len(server.requests) >= 4
        told = "".join(kernel.sent)
    assert keys == {CANARY}
    assert "sk-ant-\\u2026" in told  # where the service repeated it
    assert "CANARY" not in told
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"CANARY" not in path.read_bytes(), path
