"""Tests of ``--upload``: what goes to the Files API, when, and how a request refers to it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from nbchat import Conversation, ScriptedTransport, Session
from nbchat.content.blocks import Carried
from nbchat.context.files import attach
from nbchat.context.uploads import Form
from nbchat.core.errors import AttachmentError, BadRequestError, BudgetError, OptionError
from nbchat.core.uploads import ADDRESS
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import FilesApi, Received, Server, Wire, serving, streaming, text_events

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PDF = b"%PDF-1.4\n1 0 obj <</Type /Page>> endobj\n%%EOF\n"


def answering() -> FilesApi:
    return FilesApi(streaming(text_events(["Fine."])))


def session_at(url: str, name: str = "test", **options: Any) -> Session:
    return Session(ClaudeTransport(name, base_url=url, max_retries=0), upload=True, **options)


def paths(server: Server) -> list[str]:
    """Return what was asked, without the counting of tokens and the questions about the model."""
    return [
        f"{request.method} {request.path}"
        for request in server.requests
        if request.path in ("/v1/files", "/v1/messages")
    ]


def sent_blocks(server: Server, number: int = -1) -> list[dict[str, Any]]:
    bodies = [request.body for request in server.requests if request.path == "/v1/messages"]
    content = bodies[number]["messages"][0]["content"]
    return [block for block in content if block["type"] != "text"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a file of each kind."""
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "report.pdf").write_bytes(PDF)
    (tmp_path / "notes.txt").write_text("Grass is green.\n")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04" + bytes(range(256)))
    png = io.BytesIO()
    image.new("RGB", (2, 2), "red").save(png, "PNG")
    (tmp_path / "dot.png").write_bytes(png.getvalue())
    image.new("RGB", (3_000, 2), "red").save(tmp_path / "wide.bmp")
    return tmp_path


def attached(folder: Path, name: str, **form: bool) -> Carried:
    return attach([name], root=folder, form=Form(upload=True, **form))


@pytest.mark.parametrize(
    ("name", "code", "kind", "media_type", "uploaded_as"),
    [
        ("report.pdf", False, "document", "application/pdf", "report.pdf"),
        ("report.pdf", True, "document", "application/pdf", "report.pdf"),
        ("notes.txt", False, "document", "text/plain", "notes.txt"),
        ("notes.txt", True, "document", "text/plain", "notes.txt"),
        ("table.csv", False, "document", "text/plain", "table.csv"),
        ("table.csv", True, "container_upload", "text/csv", "table.csv"),
        ("book.xlsx", True, "container_upload", XLSX, "book.xlsx"),
        ("dot.png", False, "image", "image/png", "dot.png"),
        ("dot.png", True, "image", "image/png", "dot.png"),
        ("wide.bmp", False, "image", "image/png", "wide.png"),
    ],
)  # fmt: skip
def test_the_kind_of_a_file_decides_the_block(
    name: str, code: bool, kind: str, media_type: str, uploaded_as: str, folder: Path
):
    carried = attached(folder, name, code=code)
    (upload,) = carried.uploads
    (block,) = [block for block in carried.content if block["type"] != "text"]
    assert (block["type"], upload.media_type, upload.name) == (kind, media_type, uploaded_as)
    assert (block if kind == "container_upload" else block["source"])["file_id"] == upload.address
    assert upload.address.startswith(ADDRESS)
    if not name.endswith("bmp"):
        assert upload.content == (folder / name).read_bytes()


def test_a_binary_file_needs_the_container(folder: Path):
    with pytest.raises(AttachmentError) as caught:
        attached(folder, "book.xlsx")
    assert caught.value.hint.endswith("Or add --code-execution, so that code can read it.")


def test_a_glob_includes_data_files_only_for_the_container(folder: Path):
    (folder / ".env").write_text("KEY=1")
    assert len(attached(folder, "*", code=True).uploads) == 6
    carried = attached(folder, "*")
    assert len(carried.uploads) == 5
    assert any("book.xlsx" in note for note in carried.notes)


def test_keys_are_not_uploaded(folder: Path):
    (folder / "table.csv").write_text("user,key\nme,sk-ant-api03-" + "x" * 40 + "\n")
    for code in (True, False):
        carried = attached(folder, "table.csv", code=code)
        assert b"xxxx" not in carried.uploads[0].content
        assert carried.notes == ("table.csv: a key was left out",)


def test_a_file_over_the_limit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nbchat.context.uploads.MAX_FILE_BYTES", 100)
    monkeypatch.setattr("nbchat.context.files.MAX_FILE_BYTES", 20)
    with pytest.raises(
        AttachmentError, match=r"book\.xlsx is 260 bytes, and the limit for an uploaded file is 100 bytes"
    ):
        attached(folder, "book.xlsx", code=True)
    with pytest.raises(AttachmentError, match=r"report\.pdf is \d+ bytes, and the limit for a PDF is 20 bytes"):
        attached(folder, "report.pdf")


def test_a_pdf_larger_than_a_request_is_uploaded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "large.pdf").write_bytes(PDF + b"\0" * 25_000_000)
    assert attached(folder, "large.pdf").uploads[0].size > 25_000_000
    with pytest.raises(AttachmentError, match="the limit for a PDF"):
        attach(["large.pdf"], root=folder)


def test_a_large_data_file_is_not_held(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nbchat.context.uploads.MAX_HELD_BYTES", 1_000_000)
    data = b"a,b\n" + b"1,2\n" * 500_000
    (folder / "large.csv").write_bytes(data)
    with serving(api := answering()) as server:
        session = session_at(server.url, code_execution=True)
        session.ask(["Sum it up.", folder / "large.csv"])
        assert api.files["file_1"] == ("large.csv", "text/csv", data)
        (folder / "large.csv").write_bytes(data + b"3,4\n")
        prepared = session.prepare(["Sum it up.", folder / "large.csv"], session.options({}))
        (folder / "large.csv").write_bytes(data)
        with pytest.raises(AttachmentError, match=r"large\.csv was changed"):
            session.send(prepared)


def test_a_file_is_uploaded_once_for_a_conversation(folder: Path):
    with serving(api := answering()) as server:
        session = session_at(server.url)
        first = session.ask(["Sum it up.", folder / "report.pdf"])
        (folder / "report.pdf").rename(folder / "renamed.pdf")
        session.ask("And in French?")
        session.ask(["Once more.", folder / "renamed.pdf"])
        assert paths(server) == ["POST /v1/files", *["POST /v1/messages"] * 3]
        assert api.files == {"file_1": ("report.pdf", "application/pdf", PDF)}
        for request in server.requests:
            if request.path == "/v1/messages":
                assert request.headers["anthropic-beta"] == "files-api-2025-04-14"
                block = next(part for part in request.body["messages"][0]["content"] if part["type"] == "document")
                assert block["source"] == {"type": "file", "file_id": "file_1"}
        # The conversation refers to the content, and remembers the id.
        assert first.messages[0].content[1].to_dict()["source"]["file_id"].startswith(ADDRESS)

        loaded = Conversation.from_dict(session.conversation("main").to_dict())
        assert loaded.uploads == session.conversation("main").uploads
        other = session_at(server.url)
        other.conversations["main"] = loaded
        other.ask("And in Greek?")
        other.conversations["fork"] = loaded.fork("fork")
        other.ask("And in Thai?", chat="fork")
        assert paths(server)[4:] == ["POST /v1/messages"] * 2
        assert sent_blocks(server)[0]["source"]["file_id"] == "file_1"


def test_an_ordinary_conversation_is_saved_as_before():
    session = Session(ScriptedTransport("Fine."))
    session.ask("Hi")
    assert "uploads" not in session.conversation("main").to_dict()


@pytest.mark.parametrize("name", ["bedrock", "vertex", "local", "scripted"])
def test_an_endpoint_without_a_files_api_is_refused_before_sending(name: str, folder: Path):
    transport = ScriptedTransport("Fine.", name=name)
    if name != "scripted":
        transport.upload = None  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match=f"--upload: the endpoint {name} has no Files API"):
        Session(transport, upload=True).ask(["Sum it up.", folder / "report.pdf"])
    assert transport.requests == []


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
def test_a_server_without_a_files_api_says_what_to_do(status: str, folder: Path):
    with serving(lambda wire, request: wire.json(status, {"detail": "no"})) as server:
        with pytest.raises(BadRequestError) as caught:
            session_at(server.url).ask(["Sum it up.", folder / "report.pdf"])
        assert "POST /v1/messages" not in paths(server)
    assert caught.value.hint == "The endpoint seems to have no Files API. Attach the files without --upload."


def test_a_large_file_that_vanished_is_an_error_of_the_attachment(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nbchat.context.uploads.MAX_HELD_BYTES", 10)
    with serving(answering()) as server:
        session = session_at(server.url, code_execution=True)
        prepared = session.prepare(["Sum it up.", folder / "book.xlsx"], session.options({}))
        (folder / "book.xlsx").unlink()
        with pytest.raises(AttachmentError, match=r"book\.xlsx cannot be read: No such file"):
            session.send(prepared)


def test_another_endpoint_does_not_have_the_file_of_an_earlier_turn(folder: Path):
    with serving(answering()) as one, serving(two_api := answering()) as two:
        session = session_at(one.url)
        session.config.endpoints = {"two": ClaudeTransport("two", base_url=two.url, max_retries=0)}
        session.ask(["Sum it up.", folder / "report.pdf"])
        with pytest.raises(
            OptionError, match=r"an earlier turn uploaded report\.pdf; the endpoint two does not have it"
        ):
            session.ask("And in French?", endpoint="two")
        session.ask(["Again.", folder / "report.pdf"], endpoint="two")
        assert list(two_api.files) == ["file_1"]
        session.ask("And in French?")
        assert paths(one) == ["POST /v1/files", *["POST /v1/messages"] * 2]
        uploads = session.conversation("main").uploads.values()
        assert [dict(upload.ids) for upload in uploads] == [{"test": "file_1", "two": "file_1"}]


def refusing(gone: set[str], api: FilesApi) -> Any:
    """Return a handler of a server from which files were deleted."""

    def handler(wire: Wire, request: Received) -> None:
        for id in gone:
            if f'"{id}"'.encode() in request.raw and request.path == "/v1/messages":
                error = {"type": "not_found_error", "message": f"File not found: {id}"}
                wire.json("404 Not Found", {"type": "error", "error": error})
                return
        api(wire, request)

    return handler


def test_a_file_that_is_gone_is_uploaded_again_where_the_cell_attaches_it(folder: Path):
    gone: set[str] = set()
    with serving(refusing(gone, answering())) as server:
        session = session_at(server.url)
        session.ask(["Sum it up.", folder / "report.pdf"], cell="a")
        gone.add("file_1")
        with pytest.raises(BadRequestError, match="File not found: file_1") as caught:
            session.ask("And in French?", cell="b")
        assert caught.value.hint == "The endpoint no longer has report.pdf. Run the cell that attached it again."
        assert session.ask(["Sum it up.", folder / "report.pdf"], cell="a").text == "Fine."
        assert session.ask("And in French?", cell="b").text == "Fine."
        assert sent_blocks(server)[0]["source"]["file_id"] == "file_2"

        gone.add("file_2")  # the cell that attaches the file is the first to find out
        assert session.ask(["Sum it up.", folder / "report.pdf"], cell="a").text == "Fine."
        assert sent_blocks(server)[0]["source"]["file_id"] == "file_3"


def test_other_refusals_forget_no_file(folder: Path):
    def handler(wire: Wire, request: Received) -> None:
        if request.path == "/v1/messages":
            error = {"type": "invalid_request_error", "message": "max_tokens: too many"}
            wire.json("400 Bad Request", {"type": "error", "error": error})
        else:
            answering()(wire, request)

    with serving(handler) as server:
        session = session_at(server.url)
        for _ in range(2):
            with pytest.raises(BadRequestError, match="too many"):
                session.ask(["Sum it up.", folder / "report.pdf"])
        assert paths(server) == ["POST /v1/files", *["POST /v1/messages"] * 2]


def test_a_recording_does_not_depend_on_the_id_of_the_day(folder: Path, tmp_path: Path):
    cassette = str(tmp_path / "answers.jsonl")

    def ask(session: Session) -> list[str]:
        session.recording.use_cassette(cassette, session.config.cassette_mode or "auto")
        first = session.ask(["Sum it up.", folder / "report.pdf"])
        return [first.digest, session.ask("And in French?").digest]

    with serving(answering()) as server:
        first = ask(session_at(server.url))
    with serving(
        api := FilesApi(streaming(text_events(["Other."])), {"file_1": ("x", "x", b""), "file_2": ("x", "x", b"")})
    ) as server:
        session = session_at(server.url)
        session.config.cassette_mode = "record"
        recorded = ask(session)
        assert recorded[0] == first[0]
        assert "file_3" in api.files
    offline = session_at("http://127.0.0.1:9")
    offline.config.cassette_mode = "replay"
    assert ask(offline) == recorded
    assert offline.last is not None
    assert (offline.last.text, offline.last.replayed) == ("Other.", True)
    assert "file_3" not in Path(cassette).read_text()


def test_a_request_without_a_container_has_no_files_for_one(folder: Path):
    with serving(answering()) as server:
        session = session_at(server.url)
        session.ask(["Sum it up.", folder / "table.csv"], code_execution=True)
        assert [block["type"] for block in sent_blocks(server)] == ["container_upload"]
        session.ask("And what did I ask?")
        last = [request.body for request in server.requests if request.path == "/v1/messages"][-1]
        assert "container_upload" not in str(last)
        session.ask("And the mean?", code_execution=True)
        assert sent_blocks(server)[0]["file_id"] == "file_1"


def test_upload_without_a_file_is_refused():
    transport = ScriptedTransport("Fine.")
    with pytest.raises(OptionError, match="--upload: the prompt has no file to upload"):
        Session(transport).ask("Hi", upload=True)
    Session(transport, upload=True).ask("Hi")  # as a setting of the session it holds where there are files


def test_a_budget_counts_the_file_before_it_is_uploaded(folder: Path):
    (folder / "report.pdf").write_bytes(b"%PDF-1.4\n" + b"<</Type /Page>>" * 200 + b"\n%%EOF")
    with serving(answering()) as server:
        session = session_at(server.url, name="anthropic", budget=0.5)
        with pytest.raises(BudgetError):
            session.ask(["Sum it up.", folder / "report.pdf"])
        assert paths(server) == []


def test_the_user_sees_that_a_file_is_uploaded(folder: Path):
    class Notices:
        texts: list[str] = []

        def begin(self, request: Any) -> None: ...
        def settle(self, response: Any) -> None: ...
        def feed(self, chunk: Any) -> None:
            if chunk.type == "notice":
                self.texts.append(chunk.text)

    with serving(answering()) as server:
        session_at(server.url).ask(["Sum it up.", folder / "report.pdf"], sinks=[Notices()])
    assert f"uploading report.pdf, {len(PDF)} bytes" in Notices.texts


def test_a_slow_upload_is_not_a_stall(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Each read of the file is progress, so that a limit on silence does not end a long upload."""
    from nbchat.transports.claude import transport

    noted: list[int] = []
    monkeypatch.setattr(transport, "_note_progress", lambda: noted.append(1))
    (folder / "large.pdf").write_bytes(PDF + b"\0" * 1_000_000)
    with serving(answering()) as server:
        session_at(server.url).ask(["Sum it up.", folder / "large.pdf"])
    assert len(noted) > 10
