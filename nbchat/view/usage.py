"""The usage table and its plot, as safe HTML and plain text.

Both are HTML that the sanitisers of JupyterLab and nbconvert let through: no script, no style
sheet, no image. The plot's columns are borders without a colour, so they take the colour of the
text: that is right in every theme, also where a sanitiser has taken ``var(--jp-…)`` away. An SVG
output would be drawn by JupyterLab as an image, which knows no theme, and an inline one is cut
out of a notebook that is not trusted.

Amounts are in US dollars. MathJax would take ``$1 and $2`` for a formula: hence the two classes
of the outer element.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

from nbchat.core.errors import InputError
from nbchat.core.usage import Usage

__all__ = ["joined", "run_line", "run_table", "usage_frame", "usage_plot", "usage_table"]


class TotalLike(Protocol):
    """What is shown: the sum over a group of requests, as the ledger gives it."""

    @property
    def group(self) -> tuple[str, ...]: ...
    @property
    def requests(self) -> int: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def cost(self) -> float: ...
    @property
    def unknown(self) -> int: ...
    @property
    def saved(self) -> float: ...
    @property
    def failed(self) -> int: ...
    @property
    def replayed(self) -> int: ...


class EntryLike(Protocol):
    """What is shown of a run: one request, as the ledger has it."""

    @property
    def kind(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def cost(self) -> float | None: ...
    @property
    def saved(self) -> float | None: ...


class Recorded(Protocol):
    """An entry or a total of the ledger."""

    def to_dict(self) -> dict[str, Any]: ...


_OUTER = '<div class="nbchat-usage mathjax_ignore tex2jax_ignore">'
_COLOUR = "var(--jp-brand-color1, var(--vscode-charts-blue, currentColor))"
_HEIGHT = 110  # pixels of the highest column


def usage_table(
    totals: Iterable[TotalLike], by: str | Sequence[str] = "day", *, title: str = "Usage"
) -> dict[str, str]:
    """A mimebundle with one row for each total, and their sum when there are several.

    ``by`` names the columns of ``Total.group``. Columns that would be empty are left out.
    """
    totals = list(totals)
    names, title = (by,) if isinstance(by, str) else tuple(by), _shown(title)
    columns = _columns(totals)
    head = [*(name.capitalize() for name in names), *(name for name, _ in columns)]
    body = [_cells(total, names, columns) for total in totals]
    foot = [_cells(_sum(totals, len(names)), names, columns)] if len(totals) > 1 else []
    if not totals:
        return {
            "text/plain": f"{title}: nothing yet",
            "text/html": f"{_OUTER}<p>{escape(title)}: nothing yet</p></div>",
        }
    return {
        "text/plain": _plain_table(title, head, body, foot, len(names)),
        "text/html": _OUTER + _html_table(title, head, body, foot, len(names)) + "</div>",
    }


def usage_plot(totals: Iterable[TotalLike], *, title: str = "Cost by day") -> dict[str, str]:
    """A mimebundle with one column for each day, of totals by ``day`` (days without any are filled in).

    Totals by something else are drawn in their order. A dashed top marks a column to which
    requests of unknown cost would have to be added.
    """
    points = _every_day(list(totals))
    highest = max((cost for _, cost, _, _ in points), default=0.0)
    told = _told(title, points)
    return {
        "text/plain": _plain_plot(told, points, highest),
        "text/html": _OUTER + _html_plot(told, points, highest) + "</div>",
    }


def run_line(entries: Iterable[EntryLike]) -> str:
    """What a run cost and what replay saved, in one sentence: ``This run: 3 answers replayed, …``."""
    entries = list(entries)
    replayed = [entry for entry in entries if entry.kind == "replayed"]
    failed = [entry for entry in entries if entry.kind in ("failed", "retry")]
    sent = [entry for entry in entries if entry not in replayed and entry not in failed]
    said = []
    if replayed:
        said.append(f"{_counted(len(replayed), 'answer')} replayed, which saved {_all_of(e.saved for e in replayed)}")
    if sent:
        said.append(f"{_counted(len(sent), 'request')} sent for {_all_of(e.cost for e in sent)}")
    if failed:
        said.append(f"{_counted(len(failed), 'request')} failed")
    return f"This run: {'; '.join(said) or 'nothing was asked yet'}"


def run_table(entries: Iterable[EntryLike]) -> dict[str, str]:
    """A mimebundle with a row for each request of a run: replayed or sent, and what that saved or cost."""
    entries = list(entries)
    line = run_line(entries)
    if not entries:
        return {"text/plain": line, "text/html": f"{_OUTER}<p>{escape(line)}</p></div>"}
    head = ["Request", "Answer", "Chat", "Model", "Input", "Output", "Cost", "Saved"]
    body = [
        [
            str(number),
            _answered(entry),
            _shown(entry.chat) or "–",
            _shown(entry.model),
            f"{entry.usage.prompt_tokens:,}",
            ("≈ " if entry.usage.estimated else "") + f"{entry.usage.output_tokens:,}",
            _amount(entry.cost),
            _amount(entry.saved) if entry.kind == "replayed" else "",
        ]
        for number, entry in enumerate(entries, 1)
    ]
    return {
        "text/plain": _plain_table(line, head, body, [], 4),
        "text/html": _OUTER + _html_table(line, head, body, [], 4) + "</div>",
    }


def _answered(entry: EntryLike) -> str:
    """In a word: replayed, or sent and how that ended."""
    words = {"answer": "sent", "tool_round": "sent", "retry": "failed, tried again"}
    said = words.get(entry.kind, entry.kind)
    return said if entry.status in ("complete", entry.kind) else f"{said}: {_shown(entry.status)}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _amount(amount: float | None) -> str:
    return "unknown" if amount is None else _dollars(amount)


def _all_of(amounts: Iterable[float | None]) -> str:
    """The sum of what is known, and how much is not."""
    amounts = list(amounts)
    known = [amount for amount in amounts if amount is not None]
    unknown = len(amounts) - len(known)
    if not unknown:
        return _dollars(sum(known))
    if not known:
        return "an unknown amount"
    return f"{_dollars(sum(known))} and {unknown} unknown amount{'s' * (unknown != 1)}"


def joined(*bundles: Mapping[str, str]) -> dict[str, str]:
    """Several mimebundles as one output."""
    return {
        "text/plain": "\n\n".join(bundle["text/plain"] for bundle in bundles),
        "text/html": "\n".join(bundle["text/html"] for bundle in bundles),
    }


def usage_frame(records: Iterable[Recorded], by: str | Sequence[str] = ()) -> Any:
    """A pandas DataFrame of entries, or of totals grouped ``by`` these names. Unknown costs are NaN.

    Entries get a column ``time`` (UTC) in place of ``at``.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as missing:
        raise InputError(
            "the usage can only be had as a DataFrame with pandas, which is not installed",
            'Install it with %pip install "nbchat[data]", or see %nbchat usage.',
        ) from missing
    names = (by,) if isinstance(by, str) else tuple(by)
    rows = []
    for record in records:
        group = getattr(record, "group", ())
        rows.append(dict(zip(names, group, strict=False)) | record.to_dict())
    frame = pandas.DataFrame(rows)
    if "at" in frame:
        frame.insert(0, "time", pandas.to_datetime(frame.pop("at"), unit="s", utc=True))
    for name in ("cost", "saved", "duration"):
        if name in frame:
            frame[name] = frame[name].astype(float)
    if "day" in frame:
        frame["day"] = pandas.to_datetime(frame["day"])
    return frame


# The table

_Column = tuple[str, Any]


def _columns(totals: list[TotalLike]) -> list[_Column]:
    columns: list[_Column] = [
        ("Cost", _cost),
        ("Requests", lambda total: f"{total.requests:,}"),
        ("Input", lambda total: f"{total.usage.input_tokens:,}"),
        ("Cache write", lambda total: f"{total.usage.cache_creation_input_tokens:,}"),
        ("Cache read", lambda total: f"{total.usage.cache_read_input_tokens:,}"),
        ("Output", lambda total: ("≈ " if total.usage.estimated else "") + f"{total.usage.output_tokens:,}"),
    ]
    for name, write in (("Failed", _failed), ("Replayed", _replayed), ("Saved", _saved)):
        if any(write(total) for total in totals):
            columns.append((name, write))
    return columns


def _failed(total: TotalLike) -> str:
    return f"{total.failed:,}" if total.failed else ""


def _replayed(total: TotalLike) -> str:
    return f"{total.replayed:,}" if total.replayed else ""


def _saved(total: TotalLike) -> str:
    return _dollars(total.saved) if total.saved else ""


def _cost(total: TotalLike) -> str:
    about = "≈ " if total.usage.estimated else ""
    if not total.unknown:
        return about + _dollars(total.cost)
    if total.unknown == total.requests:
        return "unknown"
    return f"{about}{_dollars(total.cost)} + {total.unknown} unknown"


def _cells(total: TotalLike, names: Sequence[str], columns: list[_Column]) -> list[str]:
    return [*(_shown(key) or "–" for key in total.group), *(write(total) for _, write in columns)]


class _Sum:
    """All totals in one."""

    def __init__(self, totals: list[TotalLike], width: int) -> None:
        self.group = ("Total", *[" "] * (width - 1)) if width else ()
        self.usage = sum((total.usage for total in totals), Usage())
        self.requests = sum(total.requests for total in totals)
        self.cost = sum(total.cost for total in totals)
        self.unknown = sum(total.unknown for total in totals)
        self.saved = sum(total.saved for total in totals)
        self.failed = sum(total.failed for total in totals)
        self.replayed = sum(total.replayed for total in totals)


def _sum(totals: list[TotalLike], width: int) -> TotalLike:
    return _Sum(totals, width)


def _html_table(title: str, head: list[str], body: list[list[str]], foot: list[list[str]], keys: int) -> str:
    def row(cells: list[str], bold: bool = False) -> str:
        made = []
        for place, cell in enumerate(cells):
            side = "left" if place < keys else "right"
            name, scope = ("th", ' scope="row"') if place == 0 and keys else ("td", "")
            text = f"<strong>{escape(cell)}</strong>" if bold else escape(cell)
            made.append(f'<{name}{scope} style="text-align: {side}; white-space: nowrap">{text}</{name}>')
        return f"<tr>{''.join(made)}</tr>"

    heads = "".join(
        f'<th scope="col" style="text-align: {"left" if place < keys else "right"}">{escape(cell)}</th>'
        for place, cell in enumerate(head)
    )
    end = f"<tfoot>{''.join(row(cells, bold=True) for cells in foot)}</tfoot>" if foot else ""
    return (
        '<div style="overflow-x: auto"><table>'
        f'<caption style="text-align: left">{escape(title)}</caption>'
        f"<thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(row(cells) for cells in body)}</tbody>{end}</table></div>"
    )


def _plain_table(title: str, head: list[str], body: list[list[str]], foot: list[list[str]], keys: int) -> str:
    rows = [head, *body, *foot]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]

    def line(row: list[str]) -> str:
        sides = (
            cell.ljust(width) if place < keys else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(sides).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    end = [rule, *map(line, foot)] if foot else []
    return "\n".join([title, line(head), rule, *map(line, body), *end])


# The plot

_Point = tuple[str, float, int, int]  # name, cost, requests, requests of unknown cost


def _every_day(totals: list[TotalLike]) -> list[_Point]:
    points = {" ".join(total.group): (total.cost, total.requests, total.unknown) for total in totals}
    try:
        days = sorted(datetime.date.fromisoformat(name) for name in points)
    except ValueError:
        return [(_shown(name), *point) for name, point in points.items()]
    if days and (days[-1] - days[0]).days < 400:
        count = (days[-1] - days[0]).days + 1
        days = [days[0] + datetime.timedelta(days=number) for number in range(count)]
    return [(day.isoformat(), *points.get(day.isoformat(), (0.0, 0, 0))) for day in days]


def _told(title: str, points: list[_Point]) -> str:
    """The plot in one sentence, for those who do not see it."""
    title = _shown(title)
    if not points:
        return f"{title}: nothing yet"
    all_of_it = sum(cost for _, cost, _, _ in points)
    unknown = sum(count for *_, count in points)
    name, cost, _, _ = max(points, key=lambda point: point[1])
    told = f"{title}: {_dollars(all_of_it)} in all"
    if len(points) > 1 and cost:
        told += f", {_dollars(cost)} at most ({name})"
    if unknown:
        told += f"; {unknown} request{'s' * (unknown != 1)} of unknown cost left out, where the top is dashed"
    return told


def _html_plot(told: str, points: list[_Point], highest: float) -> str:
    caption = f"<figcaption>{escape(told)}</figcaption>"
    if not points:
        return f'<figure style="margin: 0">{caption}</figure>'
    columns = []
    for name, cost, requests, unknown in points:
        height = max(round(_HEIGHT * cost / highest), 1 if cost else 0) if highest else 0
        dashed = "border-top: 3px dashed; padding-top: 3px; " if unknown else ""
        what = f"{name}: {_dollars(cost)}, {requests} request{'s' * (requests != 1)}"
        what += f", {unknown} of unknown cost" if unknown else ""
        columns.append(
            f'<div title="{escape(what)}" style="flex: 1 1 0; max-width: 40px; margin-right: 2px; {dashed}'
            f'border-bottom-style: solid; border-bottom-width: {height}px"></div>'
        )
    first, last = points[0][0], points[-1][0]
    dates = f"<small>{escape(first)}</small>" + (f"<small>{escape(last)}</small>" if last != first else "")
    wide = f"width: {min(len(points) * 42, 640)}px; max-width: 100%"
    side = "display: flex; flex-direction: column; justify-content: space-between; text-align: right"
    return (
        f'<figure style="margin: 0 0 12px 0">{caption}'
        f'<div style="display: flex; margin-top: 6px"><div style="{side}; padding-right: 6px">'
        f"<small>{_dollars(highest)}</small><small>{_dollars(0.0)}</small></div>"
        f'<div style="{wide}"><div role="img" aria-label="{escape(told)}" style="display: flex; '
        f'align-items: flex-end; height: {_HEIGHT + 8}px; border-bottom: 1px solid; color: {_COLOUR}">'
        f"{''.join(columns)}</div>"
        f'<div style="display: flex; justify-content: space-between">{dates}</div></div></div></figure>'
    )


def _plain_plot(told: str, points: list[_Point], highest: float) -> str:
    if not points:
        return told
    width = max(len(name) for name, *_ in points)
    lines = [told]
    for name, cost, _, unknown in points:
        bar = _bar(cost / highest if highest else 0.0)
        lines.append(f"{name.ljust(width)}  {_dollars(cost):>9}{'+' if unknown else ' '} {bar}".rstrip())
    return "\n".join(lines)


def _bar(share: float, width: int = 40) -> str:
    """A bar of block characters, to an eighth of a character."""
    eighths = max(round(share * width * 8), 1 if share else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _dollars(amount: float) -> str:
    """Cents for large amounts, four digits below a dollar."""
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.00005 else "<$0.0001"


def _shown(text: str) -> str:
    """A name as one printable line of at most 60 characters: it may come from an endpoint."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(text)).rstrip()
    return text if len(text) <= 60 else f"{text[:59]}…"
