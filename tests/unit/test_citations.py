"""Tests of ``--cite``: what can be cited, and that a request never mixes documents with and without citations."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.content.blocks import Carried
from nbchat.context.cells import Cell, Output, carry_cells, cite_cells
from nbchat.context.files import attach
from nbchat.context.uploads import Form
from nbchat.core.errors import OptionError
from nbchat.engine.capabilities import refuse_unaccepted

PDF = b"%PDF-1.4\n1 0 obj <</Type /Page>> endobj\n%%EOF\n"
ON = {"enabled": True}
FORMAT = 'output_config={"format": {"type": "json_schema", "schema": {}}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "report.pdf").write_bytes(PDF)
    (tmp_path / "notes.txt").write_text("Grass is green.\nThe key is sk-ant-api03-" + "x" * 40 + ".\n")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n" * 20_000)
    (tmp_path / "blank.txt").write_text("\n \n")
    cells = [
        {"cell_type": "code", "execution_count": n, "source": f"x = {n}", "outputs": [], "metadata": {}} for n in (1, 2)
    ]
    (tmp_path / "book.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return tmp_path


def citing(folder: Path, name: str) -> Carried:
    return attach([name], root=folder, form=Form(cite=True))


def documents(transport: ScriptedTransport, number: int = -1) -> list[dict[str, Any]]:
    messages = [message.to_dict()["content"] for message in transport.requests[number].messages]
    blocks = [block for content in messages if isinstance(content, list) for block in content]
    return [block for block in blocks if block["type"] == "document"]


def test_texts_are_documents(folder: Path):
    carried = citing(folder, "notes.txt")
    assert carried.content[0] == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "Grass is green.\nThe key is sk-ant-….\n"},
        "title": "notes.txt",
        "citations": ON,
    }
    assert carried.notes == ("notes.txt: a key was left out",)


def test_a_long_table_is_cut_and_says_so(folder: Path):
    carried = citing(folder, "table.csv")
    assert carried.content[0]["source"]["data"].endswith("[cut: first 20,000 lines, 80.0 kB of 160.0 kB]")
    assert carried.notes == ("table.csv: first 20,000 lines, 80.0 kB of 160.0 kB",)


def test_a_blank_text_is_no_document(folder: Path):
    assert citing(folder, "blank.txt").content[0]["type"] == "text"


def test_each_cell_of_a_notebook_can_be_cited(folder: Path):
    (block,) = [block for block in citing(folder, "book.ipynb").content if block["type"] == "document"]
    assert block["title"] == "book.ipynb"
    assert block["source"]["type"] == "content"
    assert [part["text"] for part in block["source"]["content"]] == [
        f'<cell number="{number}">\n<source>\nx = {number}\n</source>\n</cell>\n' for number in (1, 2)
    ]


def test_an_image_between_cells_stays_in_its_place():
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    )
    output = Output("display", {"image/png": base64.b64encode(png).decode()})
    cells = [Cell(1, "plot()", (output,)), Cell(2, "x = '</cell>\\n'")]
    (document,) = cite_cells(carry_cells(cells), "cells 1-2").content
    assert [part["type"] for part in document["source"]["content"]] == ["text", "image", "text", "text"]


def test_cells_that_are_all_left_out_are_no_document():
    assert cite_cells(carry_cells([Cell(1, "# nbchat: ignore")]), "cells 1").content == ()


def test_all_documents_of_a_request_are_cited_or_none(folder: Path):
    transport = ScriptedTransport(*["Fine."] * 4, '{"value": 1}', "Fine.")
    session = Session(transport)
    session.ask(["Sum it up.", folder / "report.pdf"])
    assert [block.get("citations") for block in documents(transport)] == [None]
    session.ask(["And this?", folder / "notes.txt"], cite=True)
    assert [block.get("citations") for block in documents(transport)] == [ON, ON]
    # The document of the first turn was sent without citations, and the second turn's stays as it was sent.
    session.ask(["And that?", folder / "report.pdf"])
    assert [block.get("citations") for block in documents(transport)] == [ON, ON, ON]
    session.ask("Why?")
    assert [block.get("citations") for block in documents(transport)] == [ON, ON, ON]
    session.ask("As a number.", schema=int)
    assert [block.get("citations") for block in documents(transport)] == [None, None, None]
    session.ask("In a word?", chat="main")
    assert [block.get("citations") for block in documents(transport)] == [ON, ON, ON]


def test_requests_without_cite_stay_as_they_were(folder: Path):
    transport = ScriptedTransport("Fine.")
    Session(transport).ask(["Sum it up.", folder / "notes.txt"])
    assert documents(transport) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": int}, "--cite: a typed answer (--schema) cannot cite its sources"),
        ({"param": [FORMAT]}, "--cite: a typed answer (--schema) cannot cite its sources"),
        ({}, "--cite: the request has no document to cite"),
    ],
    ids=["schema", "param", "no document"],
)  # fmt: skip
def test_cite_is_refused_where_it_cannot_work(options: dict[str, Any], message: str, folder: Path):
    transport = ScriptedTransport("Fine.")
    prompt = ["Sum it up.", folder / "report.pdf"] if options else "Hi"
    with pytest.raises(OptionError) as caught:
        Session(transport).ask(prompt, cite=True, **options)
    assert caught.value.message == message
    assert transport.requests == []


@pytest.mark.parametrize("where", ["configuration", "session"])
def test_as_a_setting_it_holds_where_it_can(where: str, folder: Path):
    transport = ScriptedTransport("Hello!", "1", "Fine.")
    session = Session(transport, **({"cite": True} if where == "session" else {}))
    if where == "configuration":
        session.config.cite = True
    session.ask("Hi")
    session.ask(["How many?", folder / "notes.txt"], schema=int, once=True)
    assert documents(transport) == []
    session.ask(["Sum it up.", folder / "notes.txt"])
    assert documents(transport)[0]["citations"] == ON


def test_a_cited_document_is_sent_again_as_it_was(folder: Path):
    """The answer's citations refer to it, and the prompt cache holds it."""
    transport = ScriptedTransport("Fine.", "Fine.")
    session = Session(transport)
    session.ask(["Sum it up.", folder / "report.pdf"], cite=True)
    session.ask("And in French?")
    first, second = documents(transport, 0), documents(transport, 1)
    assert first == second
    assert first[0]["citations"] == ON


def test_a_history_with_a_document_can_be_cited(folder: Path):
    transport = ScriptedTransport("Fine.", "Fine.")
    session = Session(transport)
    session.ask(["Sum it up.", folder / "report.pdf"])
    session.ask("And where is that?", cite=True)
    assert documents(transport)[0]["citations"] == ON


def test_an_uploaded_document_can_be_cited(folder: Path):
    transport = ScriptedTransport("Fine.")
    transport.upload = lambda name, media_type, content: {"id": "file_1"}  # type: ignore[attr-defined]
    Session(transport).ask(["Sum it up.", folder / "notes.txt"], cite=True, upload=True)
    (document,) = [
        part for part in transport.requests[0].body()["messages"][0]["content"] if part["type"] == "document"
    ]
    assert document["source"] == {"type": "file", "file_id": "file_1"}
    assert document["citations"] == ON


def test_a_model_that_cites_nothing_is_refused(folder: Path):
    transport = ScriptedTransport("Fine.")
    session = Session(transport)
    session.ask(["Sum it up.", folder / "report.pdf"], cite=True)
    description = {"capabilities": {"citations": {"supported": False}}}
    with pytest.raises(OptionError, match="--cite: scripted cites no sources"):
        refuse_unaccepted(transport.requests[0], description)
