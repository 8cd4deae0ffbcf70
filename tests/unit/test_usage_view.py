"""Tests of the usage table and plot: correct numbers, safe HTML, and no colours of their own."""

from __future__ import annotations

import ast
import builtins
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nbchat.core.entries import Entry, Total
from nbchat.core.errors import InputError
from nbchat.core.usage import Usage
from nbchat.store.entries import totals_of
from nbchat.store.ledger import Ledger
from nbchat.view.plot import usage_plot
from nbchat.view.usage import joined, run_line, run_table, unknown_costs, usage_frame, usage_table


def total(*group: str, cost: float = 0.25, **known: Any) -> Total:
    """Return a total of two requests."""
    values: dict[str, Any] = {"requests": 2, "usage": Usage(1200, 340, 56, 78), "unknown": 0, "saved": 0.0}
    values |= {"failed": 0, "replayed": 0} | known
    return Total(group, cost=cost, **values)


class Tags(HTMLParser):
    """A parser that keeps tags and attributes, and asserts that each tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


#: Tags that the sanitisers of JupyterLab, GitHub and nbconvert all keep.
HARMLESS = {"div", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "strong", "small", "figure",
            "figcaption", "p"}  # fmt: skip


@pytest.mark.parametrize(
    "bundle",
    [
        usage_table([total("2026-11-01"), total("2026-11-02", cost=1.5)]),
        usage_table([]),
        usage_plot([total("2026-11-01"), total("2026-11-04", unknown=1)]),
        usage_plot([]),
        joined(usage_plot([total("2026-11-01")]), usage_table([total("m", "n")], ("model", "notebook"))),
    ],
)
def test_html_is_harmless_and_well_formed(bundle: dict[str, str]):
    """The HTML has only tags that sanitisers keep, all of them closed. It has no script, image, link or MathJax."""
    assert set(bundle) == {"text/plain", "text/html"}
    parsed = Tags(bundle["text/html"])
    assert {tag for tag, _ in parsed.tags} <= HARMLESS
    assert parsed.open == []
    assert {name for _, attributes in parsed.tags for name in attributes} <= {
        *("class", "style", "title", "role", "aria-label", "scope")
    }
    assert "url(" not in bundle["text/html"]
    for outer in re.findall(r'<div class="nbchat-usage[^"]*"', bundle["text/html"]):
        assert "mathjax_ignore tex2jax_ignore" in outer


def test_names_cannot_become_markup():
    """The names of models and conversations are escaped, because endpoints and users choose them."""
    bad = "<img src=x onerror=alert(1)>\"'&\x1b[31m\u202e" + "x" * 200
    for bundle in (usage_table([total(bad)], "model", title=bad), usage_plot([total(bad)], title=bad)):
        assert "<img" not in bundle["text/html"]
        assert {tag for tag, _ in Tags(bundle["text/html"]).tags} <= HARMLESS
        assert "\x1b" not in bundle["text/plain"] + bundle["text/html"]
        assert "\u202e" not in bundle["text/plain"] + bundle["text/html"]
        assert "x" * 60 not in bundle["text/plain"]


def test_the_table_separates_known_and_unknown_costs():
    """The table shows known, partly known and unknown costs, marks estimates, and ends with a sum."""
    made = usage_table(
        [
            total("a", cost=0.25, saved=0.125, replayed=1),
            total("b", cost=1234.5, unknown=1, usage=Usage(1, 2, estimated=True)),
            total("c", cost=0.0, unknown=2, failed=1),
            total("d", cost=0.00001),
        ],
        "model",
        title="Usage today",
    )["text/plain"]
    rows = [re.split(r"\s{2,}", line.strip()) for line in made.splitlines() if "─" not in line]
    assert rows == [
        ["Usage today"],
        ["Model", "Cost", "Requests", "Input", "Cache write", "Cache read", "Output", "Failed", "Replayed", "Saved"],
        ["a", "$0.2500", "2", "1,200", "56", "78", "340", "1", "$0.1250"],
        ["b", "≈ $1,234.50 + 1 unknown", "2", "1", "0", "0", "≈ 2"],
        ["c", "unknown", "2", "1,200", "56", "78", "340", "1"],
        ["d", "<$0.0001", "2", "1,200", "56", "78", "340"],
        ["Total", "≈ $1,234.75 + 3 unknown", "8", "3,601", "168", "234", "≈ 1,022", "1", "1", "$0.1250"],
    ]


def test_the_table_says_whether_caching_paid():
    """Writing costs more than sending, so the effect can be a loss."""
    made = usage_table([total("a", cache_saved=0.5), total("b", cache_saved=-0.0625), total("c")], "model")
    rows = [re.split(r"\s{2,}", line.strip()) for line in made["text/plain"].splitlines() if "─" not in line]
    assert [row[-1] for row in rows[1:]] == ["Cache saved", "$0.5000", "−$0.0625", "340", "$0.4375"]
    entries = [Entry(0.0, "e", "m", cost=0.1, cache_saved=-0.0625), Entry(0.0, "e", "m", cost=0.1, cache_saved=0.5)]
    assert run_line(entries) == "This run: 2 requests sent for $0.2000; the cache saved $0.4375"
    assert run_line(entries[:1]) == "This run: 1 request sent for $0.1000; the cache cost $0.0625 more"
    assert "Cache saved" in run_table(entries)["text/plain"]
    assert "Cache saved" not in run_table([Entry(0.0, "e", "m", cost=0.1)])["text/plain"]


def test_empty_columns_are_left_out():
    """A column without values is left out."""
    made = usage_table([total("a")], "model")
    assert "Failed" not in made["text/plain"]
    assert "Saved" not in made["text/html"]
    assert "Total" not in made["text/plain"]  # one row needs no sum


def test_the_plot_has_a_column_for_every_day():
    """The plot has an empty column for a day without requests. Heights are proportional to the cost."""
    made = usage_plot([total("2026-10-30", cost=0.5), total("2026-11-02", cost=1.0)])
    heights = [int(height) for height in re.findall(r"border-bottom-width: (\d+)px", made["text/html"])]
    assert len(heights) == 4
    assert heights[1] == heights[2] == 0
    assert heights[0] * 2 == heights[3]
    bars = made["text/plain"].splitlines()[1:]
    assert [line.split()[0] for line in bars] == ["2026-10-30", "2026-10-31", "2026-11-01", "2026-11-02"]
    assert bars[3].count("█") == 2 * bars[0].count("█") == 40
    tiny = usage_plot([total("2026-10-30", cost=0.0001), total("2026-10-31", cost=100.0)])
    assert "border-bottom-width: 1px" in tiny["text/html"]  # a small cost is still visible


def test_the_plot_is_accessible_to_screen_readers():
    """Screen readers get a sentence for the plot and a title for each bar, and learn of unknown costs."""
    made = usage_plot([total("2026-11-01", cost=0.5), total("2026-11-02", cost=1.25, unknown=1)])
    sentence = (
        "Cost by day: $1.75 in all, $1.25 at most (2026-11-02); "
        "1 request of unknown cost left out, where the top is dashed"
    )
    parsed = Tags(made["text/html"])
    (picture,) = [attributes for _, attributes in parsed.tags if attributes.get("role") == "img"]
    assert picture["aria-label"] == sentence
    assert sentence in parsed.said
    titles = [attributes["title"] for _, attributes in parsed.tags if "title" in attributes]
    assert titles == ["2026-11-01: $0.5000, 2 requests", "2026-11-02: $1.25, 2 requests, 1 of unknown cost"]
    assert made["text/html"].count("dashed; ") == 1


def test_the_plot_uses_the_colour_of_the_page():
    """The colour is a variable of the theme, or else the colour of the text."""
    html = usage_plot([total("2026-11-01"), total("2026-11-02")])["text/html"]
    assert re.findall(r"(?:background|#[0-9a-f]{3,6}\b|rgb)", html) == []
    assert re.findall(r"[^-]color: ([^;\"]+)", html) == [
        "var(--jp-brand-color1, var(--vscode-charts-blue, currentColor))"
    ]


def test_a_frame_of_entries_and_of_totals(tmp_path: Path):
    """The frames of ``nbchat.usage()`` have times as datetimes and unknown costs as NaN."""
    import pandas

    ledger = Ledger(tmp_path / "ledger.sqlite")
    entry = Entry(at=1_790_000_000.0, endpoint="anthropic", model="m", usage=Usage(1, 2), cost=0.5)
    for cost in (0.5, None):
        ledger.record(Entry(at=entry.at, endpoint="anthropic", model="m", usage=Usage(1, 2), cost=cost))
    frame = usage_frame(ledger.rows())
    assert str(frame["time"].dtype).startswith("datetime64[")
    assert frame["time"][0] == pandas.Timestamp(entry.at, unit="s", tz="UTC")
    assert frame["cost"].isna().tolist() == [False, True]
    assert frame["cost"].sum() == 0.5
    days = usage_frame(ledger.totals(("day", "model")), ("day", "model"))
    assert days.loc[0, "model"] == "m"
    assert days.loc[0, "requests"] == 2
    assert days.loc[0, "unknown"] == 1
    assert str(days["day"].dtype).startswith("datetime64[")
    assert len(usage_frame([])) == 0


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    """The error names pandas. The table does not need pandas."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **known: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **known)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install pandas"):
        usage_frame([])
    assert usage_table([total("a")], "model")


def test_unknown_prices_are_one_line_and_no_empty_plot():
    """The line names the models without a price, and the command in it works in a cell."""
    totals = [total("vendor/x-1", cost=0.0, unknown=2), total("known"), total("it's", cost=0.0, unknown=2)]
    line = unknown_costs(totals)["text/plain"]
    assert line.startswith("cost unknown for 4 of 6 requests; set prices so, in dollars per million tokens: %config ")
    command = line.partition("Nbchat.prices = ")[2].partition(" (outside")[0]
    assert ast.literal_eval(command) == {name: {"input": 3, "output": 15} for name in ("vendor/x-1", "it's")}
    assert usage_plot([totals[0], totals[2]]) == {}
    assert unknown_costs([total("known")]) == {}
    broke_off = unknown_costs([total("known", unknown=1)])["text/plain"]
    assert broke_off == "cost unknown for 1 of 2 requests"
    free = usage_plot([total("2026-11-01", cost=0.0), total("2026-11-02", cost=0.0)])["text/html"]
    assert "$0.00 in all" in free
    assert 'role="img"' not in free


@pytest.mark.parametrize("by", ["day", "month", "model", "notebook", "chat", "endpoint", "kind", "status"])
def test_the_totals_of_a_run_are_those_of_the_ledger(by: str, tmp_path: Path):
    """The sums of entries in memory and in the ledger are the same."""
    entries = [
        Entry(at, endpoint, model, notebook="n", chat=chat, kind=kind, usage=Usage(10, 5), cost=cost, saved=saved)
        for at, endpoint, model, chat, kind, cost, saved in (
            (0.0, "a", "m1", "c", "answer", 0.5, None),
            (90_000.0, "a", "m2", "c", "failed", None, None),
            (5_000_000.0, "b", "m1", "d", "replayed", 0.0, 0.25),
        )
    ]
    ledger = Ledger(tmp_path / "ledger.db")
    for entry in entries:
        ledger.record(entry)
    assert sorted(totals_of(entries, by), key=str) == sorted(ledger.totals(by), key=str)
