"""The fuzz ring: for each input of others, a result or one NbchatError, in bounded time, and only safe HTML.

``seeds/fuzz.json`` keeps the seeds of each target. Among them are all that ever found a fault, so they stay.
A seed makes the same input on each machine. To look for more::

    NBCHAT_FUZZ_SEEDS=10000:12000 pytest tests/faults/test_fuzz.py

runs these seeds instead. Add those that fail to the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markup import audit

import nbchat
from nbchat.core.errors import NbchatError
from nbchat.core.response import Response
from nbchat.core.template import fill
from nbchat.engine.draft import refuse_cell_options
from nbchat.engine.session import Session
from nbchat.notebook import commands
from nbchat.notebook.line import parse
from nbchat.store.journal import JournalFolder
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.scripted import ScriptedTransport
from nbchat.view.html.formula_filter import MAX_CHARACTERS, MAX_WEIGHT, weigh
from nbchat.view.html.highlight import LANGUAGES, MAX_COLOURING_S, code_html
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.safe import clean
from tests.support.server import message, sse, start, text_delta, text_events

SEEDS = Path(__file__).parent / "seeds" / "fuzz.json"
#: The time of this thread that one input may take, in seconds. Ordinary ones take milliseconds.
LIMIT_S = 2.0


def seeds(target: str) -> list[int]:
    """Return the seeds of a target."""
    if chosen := os.environ.get("NBCHAT_FUZZ_SEEDS"):
        first, _, last = chosen.partition(":")
        return list(range(int(first), int(last or int(first) + 1)))
    return list(json.loads(SEEDS.read_text())[target])


@contextlib.contextmanager
def bounded(limit_s: float = LIMIT_S) -> Iterator[None]:
    """Fail if the code inside needs more than ``limit_s`` seconds of this thread's own time."""
    began = time.thread_time()
    yield
    took = time.thread_time() - began
    assert took < limit_s, f"{took:.2f} s"


def check_error(error: NbchatError) -> None:
    """An error can be printed, and is not a book."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    print(error, file=printed, flush=True)
    assert len(str(error)) < 3_000


def check_response(response: Response) -> None:
    """A Response can be shown, printed, and saved; its HTML is safe."""
    bundle = response._repr_mimebundle_()
    audit(bundle["text/html"])
    bundle["text/plain"].encode()
    repr(response).encode()
    str(response).encode()
    json.dumps(response.to_dict(), allow_nan=False).encode()


# --- what is hostile in any text ------------------------------------------------------------------

PIECES = [
    *("{{", "}}", "{", "}", "\\{{", "\\", "'", '"', '"""', "`", "```", "~~~", "$", "$$", "\\(", "\\[", "\\]", "(", ")"),
    *("[", "]", "<", ">", "<script>", "</script>", "<img src=x onerror=a>", "<!--", "&lt;", "&#x202e;", "&", ";", "|"),
    *("\n", "\n\n", "\r\n", "\r", "\t", " ", "    ", "\x00", "\x1b[2J", "\x1b]0;a\x07", "\u202e", "\u200b", "\u2028"),
    *(
        "\ufeff",
        "\ud800",
        "\udc00",
        "😀",
        "é",
        "日本",
        "a",
        "b",
        "word",
        "1",
        "1e400",
        "NaN",
        "-",
        "--",
        "=",
        "==",
        "#",
    ),
    *("# ", "- ", "* ", "> ", "1. ", "|a|b|\n|-|-|\n", "[x](javascript:y)", "[x](http://e.com)", "![i](data:x)", "**"),
    *("_", "~~", "http://e.com", "\\frac{", "\\begin{array}", "\\end{array}", "\\require{a}", "^", ":", ",", ".", "%"),
    *("lambda", "x", "not ", "*", "+", "f'", "@", "!", "?", "null", "true", '{"type":', '"text"', "data: ", "event: "),
]


def noise(chance: random.Random, most: int = 30) -> str:
    """Return a text of hostile pieces, now and then many times one of them."""
    parts = [chance.choice(PIECES) for _ in range(chance.randint(0, most))]
    if parts and chance.random() < 0.2:
        parts.insert(chance.randrange(len(parts)), chance.choice(PIECES) * chance.choice([10, 100, 1_000, 20_000]))
    return "".join(parts)


def value(chance: random.Random, depth: int = 3) -> Any:
    """Return a JSON value of any kind."""
    if depth and chance.random() < 0.3:
        return [value(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    if depth and chance.random() < 0.4:
        return {chance.choice(["type", "text", "id", "x", ""]): value(chance, depth - 1) for _ in range(2)}
    return chance.choice(
        [None, True, False, 0, -1, 1.5, 2**70, -(2**70), 1e308, "", "text", noise(chance, 4), "a" * 3_000]
    )


def mutated(chance: random.Random, data: bytes, edits: int) -> bytes:
    """Return bytes with some of them changed, cut, repeated or moved."""
    made = bytearray(data)
    for _ in range(edits):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(7):
            case 0:
                made[at : at + chance.randint(1, 4)] = chance.randbytes(chance.randint(0, 4))
            case 1:
                made[at:at] = noise(chance, 3).encode("utf-8", "surrogatepass")[:500]
            case 2:
                del made[at : at + chance.randint(1, 50)]
            case 3:
                made[at:at] = made[at : at + chance.randint(1, 200)]
            case 4:
                line = made.rfind(b"\n", 0, at) + 1
                end = made.find(b"\n", at) + 1 or len(made)
                made[line:end] = b"" if chance.random() < 0.5 else made[line:end] * 2
            case 5:
                made = made.replace(b"\n", chance.choice([b"\r\n", b"\r", b"\n\n"]), chance.randint(1, 5))
            case 6 if chance.random() < 0.2:
                del made[at:]
    return bytes(made)


# --- the bytes of a stream ------------------------------------------------------------------------

CALL_EVENTS = [
    start(),
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm 😀."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    text_delta("Look: **é** `x` $a^2$ [l](http://e.com)\n\n", 1),
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a": 1, '}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '"b": "😀"}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "ping"},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]
TEXT_EVENTS = list(text_events(["# Ti", "tle\n\n", "| a | b |\n|---|---|\n| 1 | 2 |\n\n", "```python\nx = 1\n```\n"]))


@pytest.fixture(scope="module")
def http() -> Iterator[Any]:
    """Return a client without a network, which answers with the bytes that the test sets."""
    import anthropic
    import httpx2

    answer = SimpleNamespace(pieces=[b""], kind="text/event-stream", status=200)

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from answer.pieces

    def handle(request: Any) -> Any:
        headers = {"content-type": answer.kind, "request-id": "req_1"}
        return httpx2.Response(answer.status, headers=headers, stream=Body())

    with anthropic.DefaultHttpxClient(transport=httpx2.MockTransport(handle)) as client:
        yield SimpleNamespace(client=client, answer=answer)


@pytest.mark.parametrize("seed", seeds("bytes"))
def test_the_bytes_of_an_answer(seed: int, http: Any) -> None:
    """Damaged bytes in any pieces give an answer or an error of ours, and the next question works."""
    chance = random.Random(f"bytes {seed}")
    events = chance.choice([CALL_EVENTS, TEXT_EVENTS, [*TEXT_EVENTS[:3], *[changed(chance) for _ in range(3)]]])
    data = b"".join(sse(event) for event in events)
    if chance.random() < 0.15:
        http.answer.kind, data = "application/json", json.dumps(message([{"type": "text", "text": "Hi"}])).encode()
    else:
        http.answer.kind = "text/event-stream"
    http.answer.status = chance.choice([200] * 9 + [400, 429, 500, 529])
    data = mutated(chance, data, chance.choice([0, 1, 1, 2, 5, 20]))
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 1, 5, 50])))
    http.answer.pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    if chance.random() < 0.2:
        http.answer.pieces = [data[at : at + 1] for at in range(len(data))]
    session = Session(ClaudeTransport("fuzz", base_url="http://127.0.0.1:9", http_client=http.client, max_retries=0))

    def add(a: int, b: str) -> str:
        """Add."""
        return f"{a}{b}"

    with bounded():
        for _ in range(2):
            try:
                check_response(session.ask("Hi", tools=[add], max_rounds=2, stream=chance.random() < 0.9))
            except NbchatError as error:
                check_error(error)
            if session.last is not None:
                check_response(session.last)
    history = session.conversation("main").history(None)
    json.dumps([part.to_dict() for part in history], allow_nan=False).encode()
    assert [part.role for part in history] == ["user", "assistant"] * (len(history) // 2)


def changed(chance: random.Random) -> dict[str, Any]:
    """Return an event whose fields may be anything."""
    kinds = ["content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error", "new"]
    fields = ["index", "delta", "content_block", "usage", "error", "message"]
    event: dict[str, Any] = {name: value(chance) for name in chance.sample(fields, 3)}
    event["type"] = chance.choice(kinds)
    if chance.random() < 0.5:
        event["index"] = chance.choice([0, 1, 5])
    if chance.random() < 0.5:
        delta_kinds = ["text_delta", "thinking_delta", "input_json_delta", "citations_delta", "signature_delta", "x"]
        event["delta"] = {"type": chance.choice(delta_kinds), "text": value(chance), "partial_json": noise(chance, 5)}
    return event


# --- templates ------------------------------------------------------------------------------------


class Odd:
    """A value that does something else in each way of showing it."""

    def __init__(self, chance: random.Random) -> None:
        self._raised = chance.choice([ValueError, RecursionError, MemoryError, SystemError, StopIteration, None])

    def __repr__(self) -> str:
        if self._raised is not None:
            raise self._raised("odd")
        return "\x1b[2Jodd\ud800"

    __str__ = __repr__


@pytest.mark.parametrize("seed", seeds("templates"))
def test_templates(seed: int) -> None:
    """A prompt is filled, or one TemplateError or InputError says why not; and what is filled can be sent."""
    chance = random.Random(f"templates {seed}")
    deep = chance.choice(["(", "[", "-", "not ", "lambda:", "a.", "a[", "1+", "1**", "{", "f'{", "x if "])
    text = noise(chance)
    if chance.random() < 0.3:
        text += "{{ " + deep * chance.choice([5, 150, 3_000, 50_000]) + "1" + chance.choice([" }}", " }} }}", "}}}"])
    if chance.random() < 0.2:
        text += chance.choice(["{{ '", "{{ (", "{{ a b", "{{"]) + " }}" * chance.choice([3, 3_000, 30_000])
    if chance.random() < 0.4:
        text += " {{ " + chance.choice(["odd", "a", "[odd]", "b * 3", "None", "print", "{'k': odd}"]) + " }}"
    namespace = {"a": 1, "b": noise(chance), "x": value(chance), "odd": Odd(chance)}
    with bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            fill(text, namespace)
        except NbchatError as error:
            check_error(error)
        session = Session(ScriptedTransport("Fine."))
        try:
            session.ask(text, namespace=namespace)
        except NbchatError as error:
            check_error(error)
        else:
            json.dumps(session.endpoints._fixed.requests[0].body(), allow_nan=False).encode()


# --- files ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Let code print to a terminal that takes valid UTF-8 only."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the bytes of a cassette, a journal, a Response and a conversation."""
    folder = tmp_path_factory.mktemp("fuzz")
    session = Session(ScriptedTransport({"tool": "add", "input": {"a": 1}}, "**Fine** [1]."))
    session.recording.use_cassette(str(folder / "tape.jsonl"))

    def add(a: int) -> int:
        """Add."""
        return a

    response = session.ask("Hi", tools=[add])
    response.save(folder / "response.json")
    with terminal():
        commands.run(f'save "{folder / "chat.json"}"', session, SimpleNamespace(user_ns={}))
    from test_damaged_files import JOURNAL

    journal = "".join(f"{json.dumps(line)}\n" for line in JOURNAL)
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"journal": journal.encode()}


@pytest.mark.parametrize("seed", seeds("cassettes"))
def test_cassettes(seed: int, files: dict[str, bytes], tmp_path: Path) -> None:
    """A cassette with damaged bytes replays, or one error says which line is damaged. It is not overwritten."""
    chance = random.Random(f"cassettes {seed}")
    tape = tmp_path / "tape.jsonl"
    data = mutated(chance, files["tape.jsonl"], chance.choice([1, 2, 10, 50]))
    tape.write_bytes(data)
    session = Session(ScriptedTransport("never"))

    def add(a: int) -> int:
        """Add."""
        return a

    with bounded():
        try:
            session.recording.use_cassette(str(tape), "replay")
            check_response(session.ask("Hi", tools=[add]))
        except NbchatError as error:
            check_error(error)
    assert tape.read_bytes() == data


@pytest.mark.parametrize("seed", seeds("journals"))
def test_journals(seed: int, files: dict[str, bytes], tmp_path: Path) -> None:
    """A damaged journal is listed, and restored or explained."""
    chance = random.Random(f"journals {seed}")
    (tmp_path / "20260101-000000-dead-abc123.jsonl").write_bytes(
        mutated(chance, files["journal"], chance.choice([1, 2, 10, 50]))
    )
    folder = JournalFolder(tmp_path)
    session, shell = Session(ScriptedTransport("Fine.")), SimpleNamespace(user_ns={})
    session.recording.journals = folder
    with bounded(), terminal():
        commands.run("recover", session, shell)
        entries, problems = folder.survey()
        assert len(entries) + len(problems) == 1
        for error in problems.values():
            check_error(error)
        for entry in entries:
            check_response(folder.restore(entry))
            with contextlib.suppress(NbchatError):
                commands.run("recover abc123", session, shell)


@pytest.mark.parametrize("seed", seeds("saved"))
def test_saved_answers_and_conversations(seed: int, files: dict[str, bytes], tmp_path: Path) -> None:
    """A damaged file is loaded and can be used, or one InputError says what is wrong."""
    chance = random.Random(f"saved {seed}")
    name = chance.choice(["response.json", "chat.json"])
    path = tmp_path / name
    path.write_bytes(mutated(chance, files[name], chance.choice([1, 2, 10])))
    session, shell = Session(ScriptedTransport("Fine.")), SimpleNamespace(user_ns={})
    with bounded(), terminal():
        try:
            check_response(nbchat.load(path))
        except NbchatError as error:
            check_error(error)
        try:
            commands.run(f'load "{path}" chat', session, shell)
            commands.run("history chat", session, shell)
            session.ask("And now?", chat="chat")
        except NbchatError as error:
            check_error(error)


# --- lines ----------------------------------------------------------------------------------------

VALUES = [
    "5",
    "0",
    "-1",
    "1e400",
    "9" * 400,
    "nan",
    "",
    "a b",
    "{{ x }}",
    "~",
    "/",
    "*",
    "**/*",
    "[",
    "http://",
    "\x00",
]


@pytest.mark.parametrize("seed", seeds("options"))
def test_lines(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any line of ``%%claude`` and ``%nbchat`` is taken, or one error names the option or the word."""
    from nbchat.options import OPTIONS

    monkeypatch.chdir(tmp_path)
    chance = random.Random(f"options {seed}")
    flags = [flag for option in OPTIONS for flag in option.flags]
    words: list[str] = []
    for _ in range(chance.randint(0, 6)):
        flag = chance.choice(flags) if chance.random() < 0.8 else noise(chance, 3)
        words.append(flag + ("=" if chance.random() < 0.2 else ""))
        if chance.random() < 0.8:
            quote = chance.choice(["", "", '"', "'"])
            words.append(quote + chance.choice([*VALUES, noise(chance, 5)]) + quote)
    line = " ".join(words).replace("\n", " ")
    session = Session(ScriptedTransport("Fine."))
    shell = SimpleNamespace(user_ns={"x": 1}, kernel=None)
    with bounded(), terminal(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            options = session.options(parse(line, has_body=chance.random() < 0.5).given)
            refuse_cell_options(options)
            session.ask("Hi", options=options, namespace={"x": 1})
        except NbchatError as error:
            check_error(error)
        name = chance.choice([*commands.COMMANDS, noise(chance, 2)])
        if name in ("mcp", "doctor"):  # these start programs and connections
            name = "mcp list"
        try:
            commands.run(f"{name} {line}", session, shell)
        except NbchatError as error:
            check_error(error)


# --- colours and formulas -------------------------------------------------------------------------

CODE = [
    *(
        "a",
        "b ",
        "1",
        "_",
        "\n",
        "\t",
        " ",
        "  ",
        ".",
        ",",
        ";",
        ":",
        "::",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "=",
    ),
    *(
        "/",
        "//",
        "/*",
        "*/",
        "#",
        "--",
        "'",
        '"',
        '"""',
        "`",
        "\\",
        "\\\n",
        "$",
        "${",
        "@",
        "&",
        "|",
        "!",
        "?",
        "%",
        "^",
    ),
    *(
        "def ",
        "class ",
        "if ",
        "end",
        "begin",
        "<<A\n",
        "<a ",
        "<!--",
        "r'",
        "0x",
        "1e",
        "\r",
        "é",
        "a=",
        "a(",
        "-",
        "+",
    ),
]
_loaded: set[str] = set()


@pytest.mark.parametrize("seed", seeds("lexers"))
@pytest.mark.parametrize("lexer", sorted(set(LANGUAGES.values())))
def test_colours(lexer: str, seed: int) -> None:
    """No block of code holds the kernel, and its HTML is safe and whole."""
    chance = random.Random(f"lexers {lexer} {seed}")
    if lexer not in _loaded:
        code_html("a = 1\n", lexer)  # builds the tables of the lexer
        _loaded.add(lexer)
    pattern = "".join(chance.choice(CODE) for _ in range(chance.randint(1, 4)))
    source = "".join(chance.choice(CODE) for _ in range(chance.randint(0, 20)))
    source += (pattern * 20_000)[: chance.choice([500, 5_000, 20_000])]
    source = source.replace("\r", "\n")
    # A lexer cannot be stopped within one token, so a block may take longer than its budget.
    with bounded(MAX_COLOURING_S + LIMIT_S):
        html = code_html(source, lexer)
    assert "".join(audit(clean(html)).text) == "".join(audit(clean(code_html(source))).text)


TEX = [
    *("x", "1", " ", "^", "_", "&", "\\\\", "{", "}", "[", "]", "%", "\n", "$", "~", "'", "\\,", "\\{", "\\}", "é"),
    *(
        "\\frac{1}{2}",
        "\\frac{",
        "\\sqrt{",
        "\\sqrt[3]{",
        "\\pmb{",
        "\\text{",
        "\\ce{",
        "\\left(",
        "\\right)",
        "\\Huge ",
    ),
    *("\\begin{matrix}", "\\end{matrix}", "\\begin{array}{cc}", "\\begin{array}{*{9}{c}}", "\\end{array}", "\\cr "),
    *("\\begin{alignat}{9}", "\\end{alignat}", "\\kern 9em ", "\\rule{9em}{9em}", "\\raise 9em ", "\\hskip 99em "),
    *("\\displaystyle ", "\\color{red} ", "\\label{a}", "\\ref{a}", "\\def\\a{\\a}", "\\href{javascript:x}{y}", "\\a"),
    *("\\class{a}{b}", "\\unicode{1}", "\\require{html}", "\\mmlToken{mi}{x}", "\\(", "\\)", "\\]", "$$", "\\char"),
]


@pytest.mark.parametrize("seed", seeds("formulas"))
def test_formulas(seed: int) -> None:
    """What passes is within the limits, what does not is code, and a formula never leaves its element."""
    chance = random.Random(f"formulas {seed}")
    source = "".join(chance.choice(TEX) for _ in range(chance.randint(1, 25))) * chance.choice([1, 1, 1, 5, 40, 400])
    with bounded():
        weight = weigh(source)
        assert 0 <= weight <= MAX_WEIGHT
        if weight:
            assert len(source) <= MAX_CHARACTERS
        opening, closing = chance.choice([("$", "$"), ("$$\n", "\n$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("", "")])
        audit(render_markdown(f"a {opening}{source}{closing} b"))


@pytest.mark.parametrize("seed", seeds("markdown"))
def test_markdown(seed: int) -> None:
    """Any text in any pieces is safe at every moment, and ends as the same text in one piece."""
    chance = random.Random(f"markdown {seed}")
    text = noise(chance, 60)
    stream = MarkdownStream()
    at = 0
    with bounded():
        while at < len(text):
            size = chance.choice([1, 3, 10, 1_000])
            stream.feed(text[at : at + size])
            at += size
            stream.advance()
            if chance.random() < 0.1:
                audit("".join(stream.finished) + stream.tail())
        stream.close()
        whole = render_markdown(text)
    audit(whole)
    assert "".join(stream.finished) == whole


def _targets() -> list[Callable[..., None]]:
    return [function for name, function in globals().items() if name.startswith("test_")]


def test_each_target_has_its_seeds() -> None:
    """The file of seeds names each target, and no seed twice."""
    kept = json.loads(SEEDS.read_text())
    assert sorted(kept) == sorted(
        ("bytes", "cassettes", "formulas", "journals", "lexers", "markdown", "options", "saved", "templates")
    )
    assert len(_targets()) == len(kept) + 1
    for found in kept.values():
        assert len(set(found)) == len(found)
