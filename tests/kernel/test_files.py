"""Files of answers and uploaded files in a real ipykernel, against a server with the Files API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.kernel.harness import Kernel, kernel_of
from tests.support.server import PNG, FilesApi, Server, made, serving, streaming

HOSTILE = '"><img src=x onerror=alert(1)>\x1b]0;title\x07.csv'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files = {
        "file_a": ("chart.png", "image/png", PNG),
        "file_b": (HOSTILE, "text/csv", b"a,b\n1,2\n"),
        "file_c": ("fake.png", "image/png", b"<svg onload='alert(2)'/>"),
    }
    with serving(FilesApi(streaming(made(*files)), files)) as server:
        yield server


@pytest.fixture(scope="module")
def kernel(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    home = tmp_path_factory.mktemp("home")
    with kernel_of(home, ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY="sk-ant-test-0123456789") as kernel:
        kernel.run("%load_ext nbchat")
        yield kernel


@pytest.mark.parametrize("cell_id", ["a-cell", None], ids=["live", "saved only"])
def test_a_picture_is_in_the_saved_output_and_nothing_of_others_runs(kernel: Kernel, cell_id: str | None):
    cell = kernel.run("%%claude --code-execution --once\nDraw it.", cell_id)
    (output,) = cell.outputs
    assert sorted(output.data) == ["text/html", "text/latex", "text/plain"]
    html = output.data["text/html"]
    assert html.count("<img") == 1
    assert f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}" alt="chart.png"' in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "<svg" not in html
    assert "\x1b" not in output.data["text/plain"] + html
    nbformat.validate(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])]))


def test_files_are_saved_next_to_the_notebook(kernel: Kernel):
    kernel.run("%%claude made << --code-execution --once\nDraw it.")
    saved = kernel.value("[str(path) for path in made.files.save('out')]")
    assert saved == ["out/chart.png", "out/___img src=x onerror=alert(1)_]0;title.csv", "out/fake.png"]
    assert kernel.value("open('out/chart.png', 'rb').read().hex()") == PNG.hex()


def test_the_next_cell_goes_on_in_the_container(kernel: Kernel, server: Server):
    kernel.run("%%claude --code-execution -c data\nDraw it.", "b")
    kernel.run("%%claude --code-execution -c data\nAnd in red.", "c")
    kernel.run("%nbchat save data.json data")
    kernel.run("%nbchat load data.json again")
    kernel.run("%%claude --code-execution -c again\nAnd in blue.", "d")
    sent = [request.body.get("container") for request in server.requests if request.path == "/v1/messages"]
    assert sent[-3:] == [None, "container_1", "container_1"]


def test_a_data_file_is_uploaded_once_and_cited_texts_are_documents(kernel: Kernel, server: Server, tmp_path: Path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "notes.txt").write_text("Grass is green.\n")
    files = f"{tmp_path}/table.csv {tmp_path}/notes.txt"
    line = f"%%claude -c up --upload --code-execution --cite --attach {files}\nSum it up."
    kernel.run(line, "e")
    kernel.run(line, "e")
    body = [request.body for request in server.requests if request.path == "/v1/messages"][-1]
    blocks = [block for block in body["messages"][-1]["content"] if block["type"] != "text"]
    uploaded = [request for request in server.requests if request.path == "/v1/files"]
    assert len(uploaded) == 2
    assert [block["type"] for block in blocks] == ["container_upload", "document"]
    assert blocks[0]["file_id"] != blocks[1]["source"]["file_id"]
    assert blocks[1]["citations"] == {"enabled": True}
