"""The sources that an answer cites: their numbers in the text, and the list of them after the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbchat.view.html.markdown import MarkdownStream
from nbchat.view.html.safe import clean, escape, link_html

__all__ = ["Sources"]

#: A quotation in the list of sources is shown up to this length.
MAX_QUOTE_CHARACTERS = 200


class Sources:
    """The sources that an answer cites, numbered in the order in which they arrived. One source has one number."""

    def __init__(self) -> None:
        #: The head of each source, and the passages that were cited of it.
        self._items: dict[tuple[object, ...], tuple[str, list[str]]] = {}

    def cite(self, stream: MarkdownStream, citations: Iterable[Mapping[str, Any]]) -> None:
        """Mark the text so far with the numbers of its citations. Call this when a text block is whole."""
        seen = set()
        for citation in citations:
            number = self.add(citation)
            if number not in seen:
                stream.cite(number, _address(citation))
                seen.add(number)

    def add(self, citation: Mapping[str, Any]) -> int:
        """Return the number of the source of a citation."""
        place = _place(citation)
        key = (citation.get("document_index"), _address(citation), _title(citation), place)
        head = link_html(_address(citation), escape(_title(citation))) + (f", {escape(place)}" if place else "")
        _, quotes = self._items.setdefault(key, (head, []))
        quote = " ".join(str(citation.get("cited_text") or "").split())
        if len(quote) > MAX_QUOTE_CHARACTERS:
            quote = quote[: MAX_QUOTE_CHARACTERS - 1].rstrip() + "…"
        if quote and quote not in quotes:
            quotes.append(quote)
        return list(self._items).index(key) + 1

    def html(self) -> str:
        """Return the list of sources as safe HTML, "" without any."""
        if not self._items:
            return ""
        items = "".join(f"<li>{_item(*item)}</li>\n" for item in self._items.values())
        return clean(f"<p><strong>Sources</strong></p>\n<ol>\n{items}</ol>\n")


def _item(head: str, quotes: list[str]) -> str:
    """Return one source with all its passages."""
    return head + (": " if quotes else "") + " … ".join(f"“{escape(quote)}”" for quote in quotes)


def _address(citation: Mapping[str, Any]) -> str | None:
    address = citation.get("url") or citation.get("source")
    return address if isinstance(address, str) else None


def _title(citation: Mapping[str, Any]) -> str:
    named = citation.get("title") or citation.get("document_title") or _address(citation)
    if named:
        return " ".join(str(named).split())
    index = citation.get("document_index", citation.get("search_result_index"))
    return f"Document {index + 1}" if isinstance(index, int) else "Source"


def _place(citation: Mapping[str, Any]) -> str:
    """Return the pages of a citation as text. The API counts pages from 1, and its ranges exclude their end."""
    first, end = citation.get("start_page_number"), citation.get("end_page_number")
    if not isinstance(first, int):
        return ""
    last = end - 1 if isinstance(end, int) else first
    return f"pp. {first}–{last}" if last > first else f"p. {first}"
