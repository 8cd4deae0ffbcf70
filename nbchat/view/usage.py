"""The usage and the cost of requests: a table, a line about one run, and a DataFrame.

The HTML passes the sanitisers of JupyterLab and nbconvert: it has no script, no style sheet and no
image. Amounts are in US dollars. MathJax would read ``$1 and $2`` as a formula, so the outer element
carries the two classes that keep MathJax away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, TypeAlias

from nbchat.core.entries import Entry, Total
from nbchat.core.errors import InputError, how_to_set
from nbchat.core.money import cache_effect, dollars
from nbchat.core.plural import counted
from nbchat.core.usage import Usage
from nbchat.core.visible import visible
from nbchat.view.screen import wrapped
from nbchat.view.tables import OUTER_TAG, table_bundle

if TYPE_CHECKING:
    import pandas

__all__ = ["joined", "one_line", "run_line", "run_table", "unknown_costs", "usage_frame", "usage_table"]

#: The longest name in a table, in characters.
MAX_NAME_CHARACTERS = 60
#: The most models whose prices one line asks for.
MAX_UNPRICED_MODELS = 3


def usage_table(
    totals: Iterable[Total], by: str | Sequence[str] = "day", *, title: str = "Usage", width: int | None = None
) -> dict[str, str]:
    """Return a mimebundle with one row for each total, and with their sum if there are several.

    Args:
        totals: the sums of the ledger.
        by: the name of each part of ``Total.group``. These names become the first columns.
        title: the caption of the table.
        width: the width of the screen in characters. None is a notebook, here and below.
    """
    totals = list(totals)
    names, title = (by,) if isinstance(by, str) else tuple(by), one_line(title)
    if not totals:
        return _paragraph(f"{title}: nothing yet", width)
    columns = _columns(totals)
    head = [*(name.capitalize() for name in names), *(name for name, _ in columns)]
    body = [_cells(total, columns) for total in totals]
    foot = [_cells(_sum(totals, len(names)), columns)] if len(totals) > 1 else []
    return table_bundle(title, head, body, totals=foot, left_columns=len(names), width=width)


def run_table(entries: Iterable[Entry], *, width: int | None = None) -> dict[str, str]:
    """Return a mimebundle with one row for each request of a run: sent or replayed, what it cost or saved."""
    entries = list(entries)
    title = run_line(entries)
    if not entries:
        return _paragraph(title, width)
    caches = any(entry.cache_saved for entry in entries)
    head = ["Request", "Answer", "Chat", "Model", "Input", "Output", "Cost", *["Cache saved"] * caches, "Saved"]
    body = [
        [
            str(number),
            _outcome(entry),
            one_line(entry.chat) or "–",
            one_line(entry.model),
            f"{entry.usage.prompt_tokens:,}",
            ("≈ " if entry.usage.estimated else "") + f"{entry.usage.output_tokens:,}",
            dollars(entry.cost),
            *([dollars(entry.cache_saved) if entry.cache_saved else ""] if caches else []),
            dollars(entry.saved) if entry.kind == "replayed" else "",
        ]
        for number, entry in enumerate(entries, 1)
    ]
    return table_bundle(title, head, body, left_columns=4, width=width)


def unknown_costs(by_model: Iterable[Total], *, width: int | None = None) -> dict[str, str]:
    """Return a mimebundle that says how many costs are unknown, and how to set prices; {} if all are known.

    Args:
        by_model: the sums by model.
        width: the width of the screen in characters. None is a notebook.
    """
    totals = list(by_model)
    unknown, requests = sum(total.unknown for total in totals), sum(total.requests for total in totals)
    if not unknown:
        return {}
    text = f"cost unknown for {unknown:,} of {counted(requests, 'request')}"
    # A model that has known costs too has a price. The others of its requests broke off.
    unpriced = [total.group[0] for total in totals if total.unknown == total.requests]
    if unpriced:
        prices = {model: {"input": 3, "output": 15} for model in unpriced[:MAX_UNPRICED_MODELS]}
        text += "; set prices so, in dollars per million tokens:"
        # repr: a person copies this line into a cell. In a terminal it is a line of its own.
        text += f" {how_to_set('prices', repr(prices))}" if width is None else f"\n%config Nbchat.prices = {prices!r}"
    return _paragraph(visible(text), width)


def run_line(entries: Iterable[Entry]) -> str:
    """Return one sentence on what a run cost and what replay saved: ``This run: 3 answers replayed, …``."""
    entries = list(entries)
    replayed = [entry for entry in entries if entry.kind == "replayed"]
    failed = [entry for entry in entries if entry.kind in ("failed", "retry")]
    sent = [entry for entry in entries if entry not in replayed and entry not in failed]
    clauses = []
    if replayed:
        saved = _sum_of_amounts(entry.saved for entry in replayed)
        clauses.append(f"{counted(len(replayed), 'answer')} replayed, which saved {saved}")
    if sent:
        clauses.append(f"{counted(len(sent), 'request')} sent for {_sum_of_amounts(entry.cost for entry in sent)}")
    if effect := cache_effect(sum(entry.cache_saved or 0.0 for entry in entries)):
        clauses.append(effect)
    if failed:
        # An answer that broke off is billed, and a lost one may be.
        billed = [entry.cost for entry in failed if entry.cost != 0]
        clauses.append(
            f"{counted(len(failed), 'request')} failed" + (f", for {_sum_of_amounts(billed)}" if billed else "")
        )
    return f"This run: {'; '.join(clauses) or 'nothing was asked yet'}"


def usage_frame(records: Iterable[Entry | Total], by: str | Sequence[str] = ()) -> pandas.DataFrame:
    """Return a pandas DataFrame with one row for each entry or total. Unknown costs are NaN.

    Args:
        records: entries, or totals that are grouped by the names in ``by``.
        by: the names of the columns for ``Total.group``.

    Entries get a column ``time`` (UTC) that replaces ``at``.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as missing:
        raise InputError(
            "the usage can only be had as a DataFrame with pandas, which is not installed",
            "Install it with %pip install pandas, or see %nbchat usage.",
        ) from missing
    names = (by,) if isinstance(by, str) else tuple(by)
    rows = []
    for record in records:
        group = record.group if isinstance(record, Total) else ()
        rows.append(dict(zip(names, group, strict=False)) | record.to_dict())
    frame = pandas.DataFrame(rows)
    if "at" in frame:
        frame.insert(0, "time", pandas.to_datetime(frame.pop("at"), unit="s", utc=True))
    for name in ("cost", "saved", "cache_saved", "duration"):
        if name in frame:
            frame[name] = frame[name].astype(float)  # None becomes NaN, which pandas leaves out of a sum
    if "day" in frame:
        frame["day"] = pandas.to_datetime(frame["day"])
    return frame


def joined(*bundles: Mapping[str, str]) -> dict[str, str]:
    """Return several mimebundles as one output. An empty one is left out."""
    bundles = tuple(bundle for bundle in bundles if bundle)
    return {
        "text/plain": "\n\n".join(bundle["text/plain"] for bundle in bundles),
        "text/html": "\n".join(bundle["text/html"] for bundle in bundles),
    }


def one_line(text: str) -> str:
    """Return a name as one printable line of at most 60 characters.

    Names come from endpoints and from users, so they may hold terminal controls or run on for pages.
    """
    text = "".join(character if character.isprintable() else " " for character in str(text)).rstrip()
    return text if len(text) <= MAX_NAME_CHARACTERS else f"{text[: MAX_NAME_CHARACTERS - 1]}…"


# --- the words of a run ---------------------------------------------------------------------------


def _outcome(entry: Entry) -> str:
    """Return in a word or two if a request was replayed or sent, and how a failed one ended."""
    words = {"answer": "sent", "tool_round": "sent", "retry": "failed, tried again"}
    outcome = words.get(entry.kind, entry.kind)
    return outcome if entry.status in ("complete", entry.kind) else f"{outcome}: {one_line(entry.status)}"


def _sum_of_amounts(amounts: Iterable[float | None]) -> str:
    """Return the sum of the known amounts as text, and the number of unknown ones."""
    amounts = list(amounts)
    known = [amount for amount in amounts if amount is not None]
    unknown = len(amounts) - len(known)
    if not unknown:
        return dollars(sum(known))
    if not known:
        return "an unknown amount"
    return f"{dollars(sum(known))} and {counted(unknown, 'unknown amount')}"


# --- columns --------------------------------------------------------------------------------------

_Column: TypeAlias = tuple[str, Callable[[Total], str]]
"""The name of a column, and the function that writes its cells."""


def _columns(totals: list[Total]) -> list[_Column]:
    """Return the columns of these totals. A column that would be empty is left out."""
    columns: list[_Column] = [
        ("Cost", _cost),
        ("Requests", lambda total: f"{total.requests:,}"),
        ("Input", lambda total: f"{total.usage.input_tokens:,}"),
        ("Cache write", lambda total: f"{total.usage.cache_creation_input_tokens:,}"),
        ("Cache read", lambda total: f"{total.usage.cache_read_input_tokens:,}"),
        ("Output", lambda total: ("≈ " if total.usage.estimated else "") + f"{total.usage.output_tokens:,}"),
    ]
    for name, write in (("Cache saved", _cache_saved), ("Failed", _failed), ("Replayed", _replayed), ("Saved", _saved)):
        if any(write(total) for total in totals):
            columns.append((name, write))
    return columns


def _failed(total: Total) -> str:
    return f"{total.failed:,}" if total.failed else ""


def _replayed(total: Total) -> str:
    return f"{total.replayed:,}" if total.replayed else ""


def _cache_saved(total: Total) -> str:
    return dollars(total.cache_saved) if total.cache_saved else ""


def _saved(total: Total) -> str:
    return dollars(total.saved) if total.saved else ""


def _cost(total: Total) -> str:
    sign = "≈ " if total.usage.estimated else ""
    if not total.unknown:
        return sign + dollars(total.cost)
    if total.unknown == total.requests:
        return "unknown"
    return f"{sign}{dollars(total.cost)} + {total.unknown} unknown"


def _cells(total: Total, columns: list[_Column]) -> list[str]:
    return [*(one_line(key) or "–" for key in total.group), *(write(total) for _, write in columns)]


def _sum(totals: list[Total], keys: int) -> Total:
    """Return one total of all, with a label that fills ``keys`` columns."""
    return Total(
        group=("Total", *[" "] * (keys - 1)) if keys else (),
        requests=sum(total.requests for total in totals),
        usage=sum((total.usage for total in totals), Usage()),
        cost=sum(total.cost for total in totals),
        unknown=sum(total.unknown for total in totals),
        saved=sum(total.saved for total in totals),
        failed=sum(total.failed for total in totals),
        replayed=sum(total.replayed for total in totals),
        cache_saved=sum(total.cache_saved for total in totals),
    )


# --- mimebundles ----------------------------------------------------------------------------------


def _paragraph(text: str, width: int | None = None) -> dict[str, str]:
    return {"text/plain": wrapped(text, width), "text/html": f"{OUTER_TAG}<p>{escape(text)}</p></div>"}
