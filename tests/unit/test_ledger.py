"""The ledger: every request has a row, no row is lost, no cell breaks, no name and no key is stored."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import math
import os
import sqlite3
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbchat.core import secrets
from nbchat.core.entries import COUNTS, Entry, Spent
from nbchat.core.errors import InputError, OptionError
from nbchat.core.usage import Usage
from nbchat.store import ledger as module
from nbchat.store.entries import notebook_name, start_of
from nbchat.store.ledger import Ledger

NOON = 1_790_000_000.0
ENTRY = Entry(
    at=NOON,
    endpoint="anthropic",
    model="claude-sonnet-5-5",
    notebook="work/a.ipynb",
    chat="main",
    cell="c1",
    usage=Usage(10, 20, 30, 40, 5, 7, 1, 2, service_tier="standard", speed="fast", inference_geo="us"),
    cost=0.25,
    digest="d" * 64,
    response_id="msg_1",
    duration=1.5,
)


@pytest.fixture
def warned() -> list[str]:
    """The warnings of the ledger."""
    return []


@pytest.fixture
def ledger(tmp_path: Path, warned: list[str]) -> Ledger:
    """A ledger whose file does not exist yet."""
    return Ledger(tmp_path / "data" / "ledger.sqlite", warn=warned.append, patience=0.3)


def test_no_file_is_created_before_the_first_row(ledger: Ledger):
    """Reading an empty ledger returns nothing and creates no file."""
    assert ledger.rows() == []
    assert ledger.totals() == []
    assert ledger.totals(()) == []
    assert ledger.spent() == Spent(0.0, 0)
    assert not ledger.path.parent.exists()


def test_a_row_is_read_as_it_was_written(ledger: Ledger):
    """Every field, and an unknown cost as None."""
    unknown = replace(ENTRY, cost=None, saved=0.5, kind="replayed", round=3, status="interrupted", duration=None)
    estimated = replace(ENTRY, usage=Usage(1, 2, estimated=True))
    for entry in (ENTRY, unknown, estimated):
        assert ledger.record(entry) is True
    assert ledger.rows() == [ENTRY, unknown, estimated]


def test_the_file_is_the_users_alone_and_wal(ledger: Ledger):
    """Mode 0600, write-ahead log, a version."""
    ledger.record(ENTRY)
    if os.name == "posix":
        assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_where_the_ledger_is_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In the user's data folder, as platformdirs has it."""
    import platformdirs

    assert Ledger().path == Path(platformdirs.user_data_dir("nbchat", appauthor=False)) / "ledger.sqlite"


def test_totals_by_day_model_notebook_and_chat(ledger: Ledger):
    """Sums of the known costs, and the number of unknown ones."""
    ledger.record(ENTRY)
    ledger.record(replace(ENTRY, at=NOON + 86_400, model="m2", cost=None))
    ledger.record(replace(ENTRY, at=NOON + 86_400, model="m2", notebook="b.ipynb", chat="side", cost=1.0))
    ledger.record(replace(ENTRY, model="m2", kind="failed", status="overloaded_error", usage=Usage(), cost=0.0))
    ledger.record(replace(ENTRY, model="m2", kind="replayed", usage=Usage(1), cost=0.0, saved=0.125))

    days = ledger.totals("day")
    assert [day.group for day in days] == [
        (time.strftime("%Y-%m-%d", time.localtime(NOON)),),
        (time.strftime("%Y-%m-%d", time.localtime(NOON + 86_400)),),
    ]
    assert [(day.requests, day.cost, day.unknown, day.failed, day.replayed, day.saved) for day in days] == [
        (3, 0.25, 0, 1, 1, 0.125),
        (2, 1.0, 1, 0, 0, 0.0),
    ]
    assert [(total.group, total.cost) for total in ledger.totals("model")] == [
        (("m2",), 1.0),
        (("claude-sonnet-5-5",), 0.25),
    ]
    assert {total.group for total in ledger.totals(("notebook", "chat"))} == {
        ("work/a.ipynb", "main"),
        ("b.ipynb", "side"),
    }
    (everything,) = ledger.totals(())
    assert everything.usage.cache_read_input_tokens == 120
    assert everything.usage.web_search_requests == 3
    assert everything.requests == 5
    (later,) = ledger.totals((), since=NOON + 1)
    assert later.requests == 2
    assert ledger.totals(("model",), since=NOON + 2 * 86_400) == []
    assert [total.group for total in ledger.totals("kind")] == [("answer",), ("failed",), ("replayed",)]


def test_an_unknown_group_is_refused_with_the_nearest_name(ledger: Ledger):
    """The name never becomes a part of the SQL."""
    with pytest.raises(OptionError, match="Did you mean notebook"):
        ledger.totals("notebok")
    with pytest.raises(OptionError):
        ledger.totals("day); DROP TABLE requests; --")


def test_spent_tells_known_from_unknown(ledger: Ledger):
    """A cost of None is unknown, also if no tokens arrived: the request may have been billed."""
    ledger.record(ENTRY)
    ledger.record(replace(ENTRY, cost=None))
    ledger.record(replace(ENTRY, cost=None, usage=Usage(), kind="failed"))
    ledger.record(replace(ENTRY, at=NOON - 10, cost=5.0))
    ledger.record(replace(ENTRY, notebook="other.ipynb", cost=7.0))
    assert ledger.spent(since=NOON) == Spent(7.25, 2)
    assert ledger.spent(since=NOON, notebook="work/a.ipynb") == Spent(0.25, 2)
    assert ledger.spent() == Spent(12.25, 2)


def test_no_key_and_no_folder_of_a_user_gets_in(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Keys planted in every text are gone from the file, and so is the path of the notebook."""
    monkeypatch.setattr(secrets, "_secrets", {"my-gateway-secret"})
    planted = "sk-ant-api03-CANARY_canary my-gateway-secret"
    texts = dict.fromkeys(("endpoint", "model", "chat", "cell", "status", "digest", "response_id"), planted)
    ledger.record(replace(ENTRY, notebook="/srv/people/CanaryUser/n.ipynb", **texts))
    ledger.close()
    data = b"".join(file.read_bytes() for file in ledger.path.parent.iterdir())
    for canary in (b"CANARY", b"my-gateway-secret", b"CanaryUser"):
        assert canary not in data
    assert ledger.rows()[0].notebook.startswith("n.ipynb~")


def test_the_name_of_a_notebook_does_not_name_its_user(tmp_path: Path):
    """Below home it is the path from there; elsewhere the file's name, with its folder as four digits."""
    home = tmp_path / "home" / "ada"
    assert notebook_name(home / "work" / "x.ipynb", home=home) == "work/x.ipynb"
    first = notebook_name(tmp_path / "one" / "x.ipynb", home=home)
    second = notebook_name(tmp_path / "two" / "x.ipynb", home=home)
    assert first != second
    assert first.startswith("x.ipynb~")
    assert "one" not in first
    assert notebook_name("sub/x.ipynb") == "sub/x.ipynb"
    assert notebook_name(None) == notebook_name("") == ""
    assert notebook_name(notebook_name(tmp_path / "x.ipynb", home=home)) == notebook_name(
        tmp_path / "x.ipynb", home=home
    )


def test_csv_has_every_row_and_no_formula(ledger: Ledger, tmp_path: Path):
    """An unknown cost is empty; a model that calls itself a formula is text."""
    ledger.record(ENTRY)
    ledger.record(replace(ENTRY, model="=HYPERLINK(1)", cost=None))
    memory = io.StringIO()
    assert ledger.export_csv(memory) == 2
    rows = list(csv.DictReader(io.StringIO(memory.getvalue())))
    assert rows[0]["cost"] == "0.25"
    assert rows[0]["cache_read_input_tokens"] == "40"
    assert rows[1]["cost"] == ""
    assert rows[1]["model"] == "'=HYPERLINK(1)"
    assert rows[0]["time"].startswith(time.strftime("%Y-%m-%dT%H:%M", time.localtime(NOON)))
    target = tmp_path / "usage.csv"
    assert ledger.export_csv(target, since=NOON + 1) == 0
    assert target.read_text().startswith("time,at,endpoint")
    with pytest.raises(InputError, match="cannot be written"):
        ledger.export_csv(tmp_path / "no" / "such" / "usage.csv")


def test_a_locked_file_warns_once_and_loses_nothing(ledger: Ledger, warned: list[str]):
    """While another program locks the file, cells continue. Afterwards every row is there."""
    ledger.record(ENTRY)
    with sqlite3.connect(ledger.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert ledger.record(replace(ENTRY, cell="c2")) is False
        assert ledger.record(replace(ENTRY, cell="c3", cost=None)) is False
        assert ledger.spent() == Spent(0.5, 1)  # a budget counts what could not be written yet
        other.execute("ROLLBACK")
    other.close()
    assert len(warned) == 1
    assert "cannot be written (database is locked)" in warned[0]
    assert ledger.record(replace(ENTRY, cell="c4")) is True
    assert [entry.cell for entry in ledger.rows()] == ["c1", "c2", "c3", "c4"]


def test_a_full_disk_warns_once(ledger: Ledger, warned: list[str], monkeypatch: pytest.MonkeyPatch):
    """SQLite's limit of pages raises the same error as a full disk. Then the limit is removed."""
    ledger.record(ENTRY)
    real = Ledger._connect

    def full(self: Ledger, patience: float) -> sqlite3.Connection:
        connection = real(self, patience)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    big = replace(ENTRY, response_id="x" * 200_000)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_connect", full)
        assert ledger.record(big) is False
        assert ledger.record(big) is False
    assert len(warned) == 1
    assert "full" in warned[0]
    ledger._disconnect()
    assert ledger.record(ENTRY) is True
    assert len(ledger.rows()) == 4


def test_a_folder_that_cannot_be_created_warns_once(tmp_path: Path, warned: list[str]):
    """A file has the name of the folder. This fails for root, too, whom mode bits do not stop."""
    (tmp_path / "data").write_text("in the way")
    ledger = Ledger(tmp_path / "data" / "ledger.sqlite", warn=warned.append)
    assert ledger.record(ENTRY) is False
    assert ledger.record(ENTRY) is False
    assert len(warned) == 1
    (tmp_path / "data").unlink()
    assert ledger.record(ENTRY) is True
    assert len(ledger.rows()) == 3


def test_a_read_only_folder_warns_once(ledger: Ledger, warned: list[str], monkeypatch: pytest.MonkeyPatch):
    """The system refuses to create the file."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module.os, "open", refuse)
    assert ledger.record(ENTRY) is False
    assert ledger.record(ENTRY) is False
    assert len(warned) == 1
    assert "Permission denied" in warned[0]


def test_messages_do_not_show_the_home_folder(tmp_path: Path, warned: list[str], monkeypatch: pytest.MonkeyPatch):
    """A warning may end up in a saved notebook."""
    home = tmp_path / "CanaryHome"
    home.mkdir()
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: home))
    (home / "data").write_text("in the way")
    Ledger(home / "data" / "ledger.sqlite", warn=warned.append).record(ENTRY)
    assert "~/data/ledger.sqlite" in warned[0]


def test_a_damaged_file_is_renamed(ledger: Ledger, warned: list[str]):
    """A new ledger begins, the old file still exists, and there is one warning."""
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(b"this is no database " * 100)
    assert ledger.record(ENTRY) is True
    assert ledger.rows() == [ENTRY]
    assert (ledger.path.parent / "ledger.sqlite.broken-1").read_bytes().startswith(b"this is no database")
    assert len(warned) == 1
    assert "kept as ledger.sqlite.broken-1" in warned[0]
    ledger.close()
    ledger.path.write_bytes(b"again " * 100)
    assert ledger.rows() == []
    assert (ledger.path.parent / "ledger.sqlite.broken-2").exists()


def test_a_file_damaged_in_the_middle_is_renamed(ledger: Ledger, warned: list[str]):
    """Pages overwritten below an intact header are found when they are read."""
    for number in range(400):
        ledger.record(replace(ENTRY, cell=f"c{number}"))
    ledger.close()
    data = bytearray(ledger.path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 4096] = b"\xff" * len(data[page : page + 4096])
    ledger.path.write_bytes(data)
    assert ledger.rows() == []
    assert ledger.record(ENTRY) is True
    assert ledger.rows() == [ENTRY]
    assert len(warned) == 1


def test_a_file_that_was_deleted_is_created_again(ledger: Ledger):
    """Rows are not written into a file that has no name any more."""
    ledger.record(ENTRY)
    for file in ledger.path.parent.iterdir():
        file.unlink()
    assert ledger.record(ENTRY) is True
    assert ledger.rows() == [ENTRY]


def test_an_older_file_is_migrated_and_a_newer_one_used(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """A later version adds a column; the rows before it stay, and this version still writes."""
    ledger.record(ENTRY)
    ledger.close()
    step = "ALTER TABLE requests ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'; CREATE INDEX moods ON requests (mood)"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, step))
        assert ledger.record(ENTRY) is True
        ledger.close()
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert connection.execute("SELECT mood FROM requests").fetchall() == [("calm",), ("calm",)]
    assert ledger.record(ENTRY) is True  # the older version again
    assert ledger.rows() == [ENTRY, ENTRY, ENTRY]


def test_a_file_of_the_first_version_gets_the_column_of_the_cache(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Rows from before the column have no known effect of the cache. A loss is an amount below 0."""
    old = tuple(name for name in module.COLUMNS if name != "cache_saved")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MIGRATIONS", module._MIGRATIONS[:1])
        patch.setattr(module, "COLUMNS", old)
        values = [value for name, value in ENTRY.to_dict().items() if name in old]
        ledger._do(lambda connection: module._insert(connection, [tuple(values)]), create=True)
        ledger.close()
    lost, won = replace(ENTRY, cache_saved=-0.25), replace(ENTRY, cache_saved=1.0)
    for entry in (lost, won):
        assert ledger.record(entry) is True
    assert ledger.rows() == [ENTRY, lost, won]
    assert [total.cache_saved for total in ledger.totals(())] == [0.75]


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    ledger: Ledger, warned: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Each step and its number are one transaction."""
    ledger.record(ENTRY)
    ledger.close()
    step = "ALTER TABLE requests ADD COLUMN mood TEXT; ALTER TABLE nowhere ADD COLUMN mood TEXT"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, step))
        assert ledger.record(ENTRY) is False
    assert ledger.record(ENTRY) is True
    assert ledger.rows() == [ENTRY, ENTRY, ENTRY]
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_threads_share_a_ledger(ledger: Ledger):
    """ask_each() records from several threads."""

    def work(number: int) -> None:
        for step in range(20):
            assert ledger.record(replace(ENTRY, cell=f"{number}/{step}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({entry.cell for entry in ledger.rows()}) == 160


def test_periods_begin_at_local_midnight():
    """Today, the week from Monday, the month and the year; and all of it."""
    now = time.mktime((2026, 11, 1, 15, 30, 0, 0, 0, -1))  # a Sunday, the first of a month

    def day(period: str) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start_of(period, now)))

    assert day("today") == "2026-11-01 00:00:00"
    assert day("week") == "2026-10-26 00:00:00"
    assert day("month") == "2026-11-01 00:00:00"
    assert day("year") == "2026-01-01 00:00:00"
    assert start_of("all", now) == 0.0
    with pytest.raises(OptionError, match="Did you mean month"):
        start_of("mont", now)


BAD_COUNTS = [2**63, 2**70, -1, -(2**64), True, "many", None, 1.5, math.nan, math.inf, [], {}, 10**400]


@pytest.mark.parametrize("bad", BAD_COUNTS, ids=lambda bad: str(bad)[:12])
def test_a_bad_number_is_stored_as_a_number(ledger: Ledger, warned: list[str], bad: Any):
    """It is clamped, or is 0, and the rows after it are written as always."""
    usage = Usage(**dict.fromkeys(COUNTS, bad), estimated=bad, service_tier=bad)
    assert ledger.record(replace(ENTRY, usage=usage, round=bad, cost=bad, saved=bad, duration=bad, at=bad))
    assert ledger.record(ENTRY)
    (stored,) = [entry for entry in ledger.rows() if entry != ENTRY]
    assert all(0 <= getattr(stored.usage, name) <= 2**63 - 1 for name in COUNTS)
    assert stored.cost is None or stored.cost >= 0
    assert ledger.totals(())[0].requests == 2
    assert ledger.totals("month")
    ledger.spent()
    assert warned == []


@pytest.mark.parametrize("bad", ["\ud83d", "a\udc00b", "\x00", 5, None, b"\xff"], ids=repr)
def test_a_bad_text_is_stored_as_text(ledger: Ledger, warned: list[str], bad: Any):
    """Half a surrogate pair becomes U+FFFD."""
    texts = dict.fromkeys(("endpoint", "model", "notebook", "chat", "cell", "kind", "status", "digest"), bad)
    assert ledger.record(replace(ENTRY, **texts, response_id=bad))
    assert ledger.record(ENTRY)
    stored, _ = ledger.rows()
    assert stored.model == (
        bad.replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd") if isinstance(bad, str) else str(bad)
    )
    assert warned == []


def test_sums_of_the_largest_counts_do_not_overflow(ledger: Ledger):
    """SQLite raises an error for a sum of more than 64 bits."""
    for _ in range(3):
        ledger.record(replace(ENTRY, usage=Usage(input_tokens=2**63 - 1, output_tokens=7), cost=None))
    (total,) = ledger.totals(())
    assert (total.usage.input_tokens, total.usage.output_tokens, total.unknown) == (3 * (2**63 - 1), 21, 3)


def test_a_row_that_the_file_refuses_costs_that_row_only(ledger: Ledger, warned: list[str]):
    """Here a trigger of another program refuses one model."""
    ledger.record(ENTRY)
    with contextlib.closing(sqlite3.connect(ledger.path)) as other, other:
        other.execute(
            "CREATE TRIGGER t BEFORE INSERT ON requests WHEN NEW.model = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'no\nway'); END"
        )
    assert ledger.record(replace(ENTRY, model="bad")) is False
    assert ledger.record(replace(ENTRY, model="good")) is True
    assert [entry.model for entry in ledger.rows()] == [ENTRY.model, "good"]
    assert warned == ["the usage ledger ledger.sqlite refused 1 of 1 rows (no way); usage shows the other rows only"]


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE requests (x TEXT)",
        "CREATE TABLE requests (x TEXT); PRAGMA user_version = 1",
        "PRAGMA user_version = 7",
        "CREATE VIEW requests AS SELECT 1 AS at",
    ],
)
def test_a_ledger_of_another_schema_is_one_clear_line(tmp_path: Path, schema: str):
    """Nothing is raised out of a write, and nothing bare out of a read."""
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.executescript(schema)
    messages: list[str] = []
    ledger = Ledger(path, warn=messages.append, patience=0.2)
    assert [ledger.record(ENTRY), ledger.record(ENTRY)] == [False, False]
    assert len(messages) == 1
    assert "\n" not in messages[0]
    for read in (ledger.rows, ledger.totals, ledger.spent):
        with pytest.raises(
            InputError, match=r"^the usage ledger ledger.sqlite cannot be read .*\n(Another program|.*locked)"
        ):
            read()


def test_values_of_another_program_are_read_as_what_they_can_be(ledger: Ledger):
    """SQLite checks no types: a count may be text, and a text may not be UTF-8."""
    ledger.record(ENTRY)
    ledger.close()
    with contextlib.closing(sqlite3.connect(ledger.path)) as other, other:
        other.execute("UPDATE requests SET input_tokens = 'x', cost = 'much', at = 'now', round = x'ff'")
        other.execute("UPDATE requests SET model = CAST(x'ff41' AS TEXT), chat = x'ff', speed = 5")
    (entry,) = ledger.rows()
    assert (entry.usage.input_tokens, entry.cost, entry.at, entry.round) == (0, None, 0.0, 0)
    assert (entry.model, entry.chat, entry.usage.speed) == ("\ufffdA", "\ufffd", "5")
    assert ledger.totals("model")[0].group == ("\ufffdA",)
    ledger.export_csv(io.StringIO())


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes are files on POSIX only")
def test_a_ledger_that_is_a_pipe_or_a_device_hangs_nothing(tmp_path: Path):
    """Opening a pipe waits for its other side."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "full").symlink_to("/dev/full")
    for name in ("pipe", "full"):
        messages: list[str] = []
        ledger = Ledger(tmp_path / name, warn=messages.append, patience=0.2)
        assert ledger.record(ENTRY) is False
        assert messages == [
            f"the usage ledger {name} cannot be written (it is not a file); "
            "usage is kept in memory and is written as soon as the file can be written"
        ]
        with pytest.raises(InputError, match="it is not a file"):
            ledger.rows()


@pytest.mark.parametrize("found", ["~/.local/share/nbchat", RuntimeError("no home"), KeyError("uid")], ids=str)
def test_without_a_home_folder_rows_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | Exception
):
    """A container may run as a user without one. No folder named "~" is created, and a budget still counts."""
    import platformdirs

    def find(*names: object, **options: object) -> str:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_data_dir", find)
    monkeypatch.setattr(Path, "home", lambda: find())
    messages: list[str] = []
    ledger = Ledger(warn=messages.append)
    assert [ledger.record(replace(ENTRY, notebook="/srv/n.ipynb")) for _ in range(2)] == [False, False]
    assert len(messages) == 1
    assert "no home folder" in messages[0]
    assert ledger.rows() == []
    assert ledger.spent().known == 0.5
    assert list(tmp_path.iterdir()) == []


def test_a_short_key_and_the_password_of_a_url_do_not_get_in(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Whatever their length."""
    monkeypatch.setattr(secrets, "_short_secrets", {"k3y"})
    ledger.record(replace(ENTRY, endpoint="https://ada:pw@example.org/v1", response_id="echo k3y", model="k3years"))
    (entry,) = ledger.rows()
    assert (entry.endpoint, entry.response_id) == ("https://ada:…@example.org/v1", "echo …")
    assert entry.model == "k3years"
