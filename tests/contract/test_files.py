"""Tests of the files that an answer made, against a local server with the Files API."""

from __future__ import annotations

import base64
import copy
import pickle
import stat
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nbchat import Response, ScriptedTransport, Session
from nbchat.core.errors import BadRequestError, CassetteMiss, InputError
from nbchat.core.files import AnswerFile
from nbchat.core.saved_files import file_name, write_new
from nbchat.engine import files as engine_files
from nbchat.transports.claude import ClaudeTransport
from nbchat.view.html.render import render_response
from tests.support.server import PNG, FilesApi, Received, Wire, made, replay, serving, streaming

CSV = b"a,b\n1,2\n"


def session_at(url: str, **options: Any) -> Session:
    return Session(ClaudeTransport("test", base_url=url, max_retries=0), code_execution=True, **options)


def api(**files: tuple[str, str, bytes]) -> FilesApi:
    """Return a server that answers with these files, by their ids."""
    return FilesApi(streaming(made(*files)), dict(files))


def test_files_are_named_shown_and_saved(tmp_path: Path):
    with serving(api(file_a=("chart.png", "image/png", PNG), file_b=("table.csv", "text/csv", CSV))) as server:
        response = session_at(server.url).ask("Draw it.")
        assert repr(response.files) == f"(<chart.png, image/png, {len(PNG)} bytes>, <table.csv, text/csv, 8 bytes>)"
        # Only the image was downloaded: nobody has asked for the table yet.
        asked = [request.path for request in server.requests if request.path.startswith("/v1/files")]
        assert asked == ["/v1/files/file_a", "/v1/files/file_a/content", "/v1/files/file_b"]
        assert all(request.headers["anthropic-beta"] == "files-api-2025-04-14" for request in server.requests[-3:])
        assert response.files[1].save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "table.csv"
        assert [path.name for path in response.files.save(tmp_path)] == ["chart.png", "table.csv"]
        assert (tmp_path / "table.csv").read_bytes() == CSV
        assert (tmp_path / "chart.png").read_bytes() == PNG
        assert [path.name for path in response.files.save(str(tmp_path))] == ["chart-2.png", "table-2.csv"]
    page = render_response(response)
    assert f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}" alt="chart.png"' in page["text/html"]
    assert "<li>table.csv, text/csv, 8 bytes</li>" in page["text/html"]
    assert f"Files:\n- chart.png, image/png, {len(PNG)} bytes\n- table.csv, text/csv, 8 bytes" in page["text/plain"]


@pytest.mark.parametrize(
    "kind", ["code_execution_tool_result", "bash_code_execution_tool_result", "encrypted", "container_upload", "twice"]
)
def test_a_file_is_found_in_every_kind_of_result(kind: str):
    output = {"type": "code_execution_output", "file_id": "file_a"}
    result = {"type": "encrypted_code_execution_result", "encrypted_stdout": "x", "content": [output]}
    block: dict[str, Any] = {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": result}
    if kind == "container_upload":
        block = {"type": "container_upload", "file_id": "file_a"}
    elif kind != "encrypted":
        block["type"] = kind if kind != "twice" else "bash_code_execution_tool_result"
        result["type"] = "code_execution_result"
    if kind == "twice":
        result["content"] = [output, output]
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {}}
    response = Session(ScriptedTransport([call, block, "Done."])).ask("Draw it.")
    assert [file.id for file in response.files] == ["file_a"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "text",
        7,
        [],
        {"content": "x"},
        {"content": [None, 7, {"file_id": 7}, {"file_id": " "}]},
        {"error_code": "x"},
    ],
    ids=repr,
)
def test_odd_results_have_no_files(content: Any):
    block = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": content}
    assert Session(ScriptedTransport([block, "Done."])).ask("Draw it.").files == ()


def test_a_file_without_a_description_never_fails_the_answer(tmp_path: Path):
    def failing(wire: Wire, request: Received) -> None:
        wire.json("500 Error", {"type": "error", "error": {"type": "api_error", "message": "no files today"}})

    with serving(
        lambda wire, request: (api(file_a=("a", "b", b"")) if "files" not in request.path else failing)(wire, request)
    ) as server:
        response = session_at(server.url).ask("Draw it.")
        assert response.status == "complete"
        assert response.text == "Here it is."
        assert (
            "its name could not be read: the endpoint answered 500 api_error: no files today" in response.files[0].note
        )
        assert "file_a (its name could not be read" in render_response(response)["text/plain"]
        with pytest.raises(Exception, match="no files today"):
            response.files.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_without_a_files_api_lists_the_ids(tmp_path: Path):
    transport = ScriptedTransport(made("file_a"))
    response = Session(transport).ask("Draw it.")
    assert response.files[0].note == "its name could not be read: the endpoint scripted has no Files API"
    with pytest.raises(InputError, match="the endpoint scripted has no Files API"):
        response.files[0].save(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({}, "file_a"),
        ({"filename": None, "mime_type": 7, "size_bytes": "many"}, "file_a"),
        ({"filename": " ", "size_bytes": -1}, "file_a"),
        (
            {"filename": "a\x1b[2J\u202eb.png", "mime_type": "text/plain", "size_bytes": True},
            "a\\x1b[2J\\u202eb.png, text/plain",
        ),
        (
            {"filename": "<img src=x onerror=alert(1)>", "mime_type": "<b>"},
            "&lt;img src=x onerror=alert(1)&gt;, &lt;b&gt;",
        ),
        ({"filename": "a\n\n# b", "size_bytes": 10**30}, "a\\n\\n# b"),
    ],
    ids=repr,
)
def test_names_of_others_are_shown_and_do_nothing(metadata: dict[str, Any], line: str):
    transport = ScriptedTransport(made("file_a"))
    transport.file_metadata = lambda id: metadata  # type: ignore[attr-defined]
    response = Session(transport).ask("Draw it.")
    assert f"<li>{line}</li>" in render_response(response)["text/html"]


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../.bashrc", "bashrc"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("..", "file"),
        ("...", "file"),
        ("", "file"),
        ("a/", "file"),
        ("nul.txt", "_nul.txt"),
        ("COM1", "_COM1"),
        ("a\x00b\n.png", "ab.png"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud83d.png", "half .png"),
        ("weiß 天气.csv", "weiß 天气.csv"),
        ("a:b*c?.txt ", "a_b_c_.txt"),
        ("~", "~"),
    ],
)
def test_a_name_of_others_leads_nowhere_else(name: str, saved: str, tmp_path: Path):
    assert file_name(name) == saved
    path = write_new(tmp_path, name, lambda write: write(b"x"))
    assert path.parent == tmp_path
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("name", ["x" * 400 + ".png", "天" * 200 + ".csv", "." + "y" * 300, "a." + "b" * 300])
def test_a_long_name_is_cut(name: str, tmp_path: Path):
    first, second = (write_new(tmp_path, name, lambda write: write(b"x")) for _ in range(2))
    assert first != second
    assert len(second.name.encode()) < 255


def test_a_link_is_not_followed_and_the_mode_is_ordinary(tmp_path: Path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")
    path = write_new(tmp_path, "a.txt", lambda write: write(b"x"))
    assert path.name == "a-2.txt"
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "ordinary").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path):
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match=r"b\.txt cannot be written into"):
        write_new(tmp_path / "a", "b.txt", lambda write: write(b"x"))


def test_a_download_that_breaks_off_leaves_no_file(tmp_path: Path):
    def broken(wire: Wire, request: Received) -> None:
        if request.path.endswith("/content"):
            wire.head(content_type="application/octet-stream")
            wire.send(b"half")
            wire.reset()
        else:
            api(file_a=("table.csv", "text/csv", CSV))(wire, request)

    with serving(broken) as server:
        response = session_at(server.url).ask("Draw it.")
        with pytest.raises(Exception, match=r"broke|reset|closed"):
            response.files[0].save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_larger_than_it_may_be_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_files, "MAX_FILE_BYTES", 100_000)
    with serving(api(file_a=("table.csv", "text/csv", b"x" * 200_000))) as server:
        response = session_at(server.url).ask("Draw it.")
        with pytest.raises(BadRequestError, match=r"the file table\.csv is larger than 100\.0 kB"):
            response.files[0].save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("media_type", "data", "note"),
    [
        ("image/png", PNG, ""),
        ("image/png", b"<svg onload='alert(1)'/>", "the image cannot be shown"),
        ("image/svg+xml", b"<svg onload='alert(1)'/>", "the image cannot be shown"),
        ("image/png", b"", "the image cannot be shown"),
        ("image/png", PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:], "the image cannot be shown"),
        ("image/png", PNG + b"\0" * 1_000_000, "the image is too large to be shown"),
        ("text/html", PNG, ""),
    ],
    ids=["png", "svg as png", "svg", "empty", "a bomb", "large", "not an image"],
)
def test_only_small_images_that_browsers_draw_are_shown(media_type: str, data: bytes, note: str):
    with serving(api(file_a=("a.png", media_type, data))) as server:
        response = session_at(server.url).ask("Draw it.")
    assert response.files[0].note == note
    html = render_response(response)["text/html"]
    assert ("<img" in html) == (data == PNG and media_type == "image/png")
    assert "svg onload" not in html


def test_an_answer_with_many_images_stays_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_files, "MAX_IMAGES_BYTES", 2 * len(PNG))
    monkeypatch.setattr(engine_files, "MAX_DESCRIBED", 4)
    files = {f"file_{number}": (f"{number}.png", "image/png", PNG) for number in range(6)}
    with serving(FilesApi(streaming(made(*files)), files)) as server:
        response = session_at(server.url).ask("Draw them.")
    assert [bool(file.data) for file in response.files] == [True, True, False, False, False, False]
    assert [file.note for file in response.files[2:]] == [
        *["the image is too large to be shown"] * 2,
        *["its name was not asked for"] * 2,
    ]


def test_a_replay_shows_and_saves_the_same_offline(tmp_path: Path):
    cassette = str(tmp_path / "answers.jsonl")
    with serving(api(file_a=("chart.png", "image/png", PNG), file_b=("table.csv", "text/csv", CSV))) as server:
        session = session_at(server.url)
        session.recording.use_cassette(cassette)
        recorded = session.ask("Draw it.")
        recorded.files[1].save(tmp_path)
    offline = session_at("http://127.0.0.1:9")
    offline.recording.use_cassette(cassette, "replay")
    replayed = offline.ask("Draw it.")
    assert replayed.files == recorded.files
    assert render_response(replayed) == render_response(recorded)
    paths = replayed.files.save(tmp_path / "replayed")
    assert [path.read_bytes() for path in paths] == [PNG, CSV]


def test_a_replay_says_what_the_cassette_does_not_hold(tmp_path: Path):
    cassette = tmp_path / "answers.jsonl"
    with serving(api(file_a=("chart.png", "image/png", PNG), file_b=("table.csv", "text/csv", CSV))) as server:
        session = session_at(server.url)
        session.recording.use_cassette(str(cassette))
        session.ask("Draw it.")
    lines = cassette.read_text().splitlines(keepends=True)
    offline = session_at("http://127.0.0.1:9")
    offline.recording.use_cassette(str(cassette), "replay")
    with pytest.raises(CassetteMiss, match=r"does not hold the file file_b"):
        offline.ask("Draw it.").files[1].save(tmp_path)
    cassette.write_text("".join(line for line in lines if '"request":{"file"' not in line))
    offline = session_at("http://127.0.0.1:9")
    offline.recording.use_cassette(str(cassette), "replay")
    assert [file.note for file in offline.ask("Draw it.").files] == ["not in the cassette"] * 2


def test_a_large_file_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nbchat.transports.cassette.MAX_RECORDED_BYTES", 60_000)
    with serving(api(file_a=("table.csv", "text/csv", b"x" * 120_000))) as server:
        session = session_at(server.url)
        session.recording.use_cassette(str(tmp_path / "answers.jsonl"))
        path = session.ask("Draw it.").files[0].save(tmp_path)
    assert path.stat().st_size == 120_000
    assert (tmp_path / "answers.jsonl").stat().st_size < 5_000


def test_a_saved_response_and_a_copy_ask_the_endpoint_again(tmp_path: Path):
    import nbchat

    with serving(api(file_a=("table.csv", "text/csv", CSV))) as server:
        session = session_at(server.url)
        nbchat.use_session(session)
        response = session.ask("Draw it.")
        loaded = nbchat.load(response.save(tmp_path / "answer.json"))
        copies = [loaded, copy.deepcopy(response), pickle.loads(pickle.dumps(response))]
        for number, other in enumerate(copies):
            assert other.files == response.files
            assert other.files[0].source is None
            (path,) = other.files.save(tmp_path / str(number))
            assert path.read_bytes() == CSV


def test_an_interrupt_while_files_are_looked_up_keeps_the_answer():
    def interrupted(id: str) -> Any:
        raise KeyboardInterrupt

    transport = ScriptedTransport(made("file_a"))
    transport.file_metadata = interrupted  # type: ignore[attr-defined]
    session = Session(transport)
    with pytest.raises(KeyboardInterrupt):
        session.ask("Draw it.")
    assert session.last is not None
    assert session.last.text == "Here it is."
    assert session.last.files == (AnswerFile("file_a", endpoint="scripted"),)


@pytest.mark.parametrize(
    ("now", "container"), [("2026-04-24T11:00:00+00:00", True), ("2026-04-24T12:00:00+00:00", False)]
)
@pytest.mark.parametrize("name", ["code_execution_tool_stream", "text_editor_code_execution_tool_stream"])
def test_a_recorded_answer_names_its_container(
    name: str, now: str, container: bool, streams: Path, monkeypatch: pytest.MonkeyPatch
):
    recorded = (streams / f"pydantic-ai--test_anthropic_{name}--0.sse").read_bytes()
    monkeypatch.setattr(time, "time", lambda: datetime.fromisoformat(now).timestamp())
    with serving(replay(recorded)) as server:
        session = session_at(server.url)
        first = session.ask("Go.")
        session.ask("On.")
    assert first.container is not None
    assert first.container["id"].startswith("container_011CaNR")
    assert first.container["expires_at"].startswith("2026-04-24T11:1")
    sent = [request.body.get("container") for request in server.requests if request.path == "/v1/messages"]
    assert sent == [None, first.container["id"] if container else None]


def test_an_answer_without_files_looks_as_before():
    response = Response("Hello!")
    assert "Files" not in render_response(response)["text/plain"]
    assert "files" not in response.to_dict()
