"""The files that an answer made: small images as pictures, the others as a list of names.

A picture is an image of a format that browsers only draw, as a ``data:`` address. Nothing of it is text of
others, and nothing is loaded from elsewhere. The list of allowed tags has no image, so no other text can
show one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from nbchat.content.blocks import human_size
from nbchat.content.media_types import image_type
from nbchat.core.files import AnswerFile
from nbchat.core.visible import visible_line
from nbchat.view.html.safe import escape

__all__ = ["file_line", "files_html", "files_text"]

_HOW = "response.files.save(folder) writes them"


def files_html(files: Iterable[AnswerFile]) -> str:
    """Return the files as safe HTML, "" without any."""
    files = tuple(files)
    if not files:
        return ""
    pictures = "".join(f"<p>{picture}</p>\n" for file in files if (picture := _picture(file)))
    items = "".join(f"<li>{escape(file_line(file))}</li>\n" for file in files)
    return f"{pictures}<p><strong>Files</strong></p>\n<ul>\n{items}</ul>\n<p><em>[{_HOW}]</em></p>\n"


def files_text(files: Iterable[AnswerFile]) -> str:
    """Return the files as lines of text, "" without any."""
    lines = [f"- {file_line(file)}" for file in files]
    return "\n".join(["Files:", *lines, f"[{_HOW}]"]) if lines else ""


def file_line(file: AnswerFile) -> str:
    """Return the name, the type and the size of a file on one line.

    >>> file_line(AnswerFile("file_1", "chart.png", "image/png", 12_300))
    'chart.png, image/png, 12.3 kB'
    """
    size = human_size(file.size) if file.size is not None else ""
    parts = [visible_line(file.name or file.id), visible_line(file.media_type), size]
    return ", ".join(part for part in parts if part) + (f" ({visible_line(file.note, 200)})" if file.note else "")


def _picture(file: AnswerFile) -> str:
    media_type = image_type(file.data) if file.data else None
    if file.data is None or media_type is None:
        return ""
    encoded = base64.b64encode(file.data).decode("ascii")
    name = escape(visible_line(file.name))
    return f'<img src="data:{media_type};base64,{encoded}" alt="{name}" style="max-width:100%"/>'
