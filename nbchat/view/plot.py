"""The cost of each day as a bar chart, in HTML and in characters.

The bars are the borders of empty elements. A border without a colour takes the colour of the text,
so the chart is readable in every theme, even if a sanitiser has removed ``var(--jp-…)``. An SVG would
not do: JupyterLab shows an SVG output as an image, which does not know the theme, and removes an
inline one from a notebook that is not trusted.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from nbchat.core.entries import Total
from nbchat.core.money import dollars
from nbchat.core.plural import counted
from nbchat.view.screen import wrapped
from nbchat.view.tables import OUTER_TAG
from nbchat.view.usage import one_line

__all__ = ["usage_plot"]

_COLOUR = "var(--jp-brand-color1, var(--vscode-charts-blue, currentColor))"
#: The height of the highest bar.
HEIGHT_PX = 110
#: The width of the highest bar of the text, in characters.
BAR_CHARACTERS = 40
#: Days without a request are filled in, unless that would make more bars than this.
MAX_DAYS = 400


class _Bar(NamedTuple):
    """One bar. ``unknown`` is the number of requests whose cost is unknown."""

    name: str
    cost: float
    requests: int
    unknown: int


def usage_plot(totals: Iterable[Total], *, title: str = "Cost by day", width: int | None = None) -> dict[str, str]:
    """Return a mimebundle with one bar for each day; {} if no cost is known, and the caption alone if all are 0.

    A dashed top marks a bar whose day has requests of unknown cost: the bar should be higher.

    Args:
        totals: the sums by ``day``; days without requests are filled in. Totals by something else
            are drawn in their order.
        title: the beginning of the caption.
        width: the width of the screen in characters, for the plain text. None is a notebook.
    """
    totals = list(totals)
    if totals and all(total.unknown == total.requests for total in totals):
        return {}
    bars = _bars(totals)
    highest = max((bar.cost for bar in bars), default=0.0)
    caption = _caption(title, bars)
    return {
        "text/plain": _plain_plot(caption, bars if highest else [], highest, width),
        "text/html": OUTER_TAG + _html_plot(caption, bars if highest else [], highest) + "</div>",
    }


def _bars(totals: list[Total]) -> list[_Bar]:
    sums = {" ".join(total.group): (total.cost, total.requests, total.unknown) for total in totals}
    try:
        days = sorted(datetime.date.fromisoformat(name) for name in sums)
    except ValueError:
        return [_Bar(one_line(name), *values) for name, values in sums.items()]
    if days and (days[-1] - days[0]).days < MAX_DAYS:
        count = (days[-1] - days[0]).days + 1
        days = [days[0] + datetime.timedelta(days=number) for number in range(count)]
    return [_Bar(day.isoformat(), *sums.get(day.isoformat(), (0.0, 0, 0))) for day in days]


def _caption(title: str, bars: list[_Bar]) -> str:
    """Return the chart in one sentence, for people who cannot see the chart."""
    title = one_line(title)
    if not bars:
        return f"{title}: nothing yet"
    unknown = sum(bar.unknown for bar in bars)
    highest = max(bars, key=lambda bar: bar.cost)
    caption = f"{title}: {dollars(sum(bar.cost for bar in bars))} in all"
    if len(bars) > 1 and highest.cost:
        caption += f", {dollars(highest.cost)} at most ({highest.name})"
    if unknown:
        caption += f"; {counted(unknown, 'request')} of unknown cost left out"
        caption += ", where the top is dashed" if highest.cost else ""
    return caption


def _html_plot(caption: str, bars: list[_Bar], highest: float) -> str:
    figcaption = f"<figcaption>{escape(caption)}</figcaption>"
    if not bars:
        return f'<figure style="margin: 0">{figcaption}</figure>'
    columns = []
    for name, cost, requests, unknown in bars:
        height = max(round(HEIGHT_PX * cost / highest), 1 if cost else 0) if highest else 0
        dashed = "border-top: 3px dashed; padding-top: 3px; " if unknown else ""
        tooltip = f"{name}: {dollars(cost)}, {counted(requests, 'request')}"
        tooltip += f", {unknown} of unknown cost" if unknown else ""
        columns.append(
            f'<div title="{escape(tooltip)}" style="flex: 1 1 0; max-width: 40px; margin-right: 2px; {dashed}'
            f'border-bottom-style: solid; border-bottom-width: {height}px"></div>'
        )
    first, last = bars[0].name, bars[-1].name
    dates = f"<small>{escape(first)}</small>" + (f"<small>{escape(last)}</small>" if last != first else "")
    width = f"width: {min(len(bars) * 42, 640)}px; max-width: 100%"
    axis = "display: flex; flex-direction: column; justify-content: space-between; text-align: right"
    return (
        f'<figure style="margin: 0 0 12px 0">{figcaption}'
        f'<div style="display: flex; margin-top: 6px"><div style="{axis}; padding-right: 6px">'
        f"<small>{dollars(highest)}</small><small>{dollars(0.0)}</small></div>"
        f'<div style="{width}"><div role="img" aria-label="{escape(caption)}" style="display: flex; '
        f'align-items: flex-end; height: {HEIGHT_PX + 8}px; border-bottom: 1px solid; color: {_COLOUR}">'
        f"{''.join(columns)}</div>"
        f'<div style="display: flex; justify-content: space-between">{dates}</div></div></div></figure>'
    )


def _plain_plot(caption: str, bars: list[_Bar], highest: float, width: int | None) -> str:
    if not bars:
        return wrapped(caption, width)
    names = max(len(bar.name) for bar in bars)
    longest = BAR_CHARACTERS if width is None else max(1, min(BAR_CHARACTERS, width - names - 13))
    lines = [wrapped(caption, width)]
    for name, cost, _, unknown in bars:
        blocks = _blocks(cost / highest if highest else 0.0, longest)
        lines.append(f"{name.ljust(names)}  {dollars(cost):>9}{'+' if unknown else ' '} {blocks}".rstrip())
    return "\n".join(lines)


def _blocks(share: float, longest: int) -> str:
    """Return a bar of block characters, exact to an eighth of a character."""
    eighths = max(round(share * longest * 8), 1 if share else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
