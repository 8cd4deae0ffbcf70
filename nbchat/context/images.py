"""Figures of the plotting libraries, and other values that show themselves as an image, as image blocks."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nbchat.content.blocks import Carried, carry_text, one_line, tagged
from nbchat.content.bundles import image_bytes, image_of_bundle
from nbchat.content.cutting import shorten
from nbchat.content.images import carry_image, carry_pillow
from nbchat.content.media_types import LONG_EDGE_PX

__all__ = ["carry_picture", "is_picture"]

#: Characters of the note and the tags around a figure's specification.
FRAME_CHARACTERS = 80


def _isinstance(value: Any, module: str, name: str) -> bool:
    """Return True if the value is an instance of a class of a loaded module.

    A library is never imported to test a type: a value of its types cannot exist before it is loaded.
    """
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def is_picture(value: Any) -> bool:
    """Return True if :func:`carry_picture` may return an image of the value. Draws nothing."""
    return (
        _matplotlib_figure(value) is not None
        or _isinstance(value, "PIL.Image", "Image")
        or _isinstance(value, "plotly.basedatatypes", "BaseFigure")
        or _isinstance(value, "altair", "TopLevelMixin")
        or any(callable(getattr(type(value), name, None)) for name in ("_repr_png_", "_repr_jpeg_"))
    )


def carry_picture(value: Any, name: str, limit: int) -> Carried | None:
    """Return the image of a figure, of a Pillow image, or of a value with an image repr. Return None for others.

    A plotly or altair figure that cannot be drawn here is sent as its specification, in at most
    ``limit`` characters.
    """
    figure = _matplotlib_figure(value)
    if figure is not None:
        return _draw_matplotlib(figure, name)
    if _isinstance(value, "PIL.Image", "Image"):
        return carry_pillow(value, name)
    if _isinstance(value, "plotly.basedatatypes", "BaseFigure"):
        return _draw(name, "plotly", lambda: value.to_image(format="png"), value.to_json, "kaleido", limit)
    if _isinstance(value, "altair", "TopLevelMixin"):
        return _draw(name, "altair", lambda: _save_altair(value), value.to_json, "vl-convert-python", limit)
    data = _repr_image(value)
    return None if data is None else carry_image(data, name)


def _matplotlib_figure(value: Any) -> Any:
    """Return the figure of a matplotlib figure, of axes, or of a seaborn grid, or None."""
    if "matplotlib.figure" not in sys.modules:
        return None
    if _isinstance(value, "matplotlib.figure", "Figure"):
        return value
    has_figure = _isinstance(value, "matplotlib.axes", "Axes") or _isinstance(value, "matplotlib.figure", "SubFigure")
    if has_figure or type(value).__module__.partition(".")[0] == "seaborn":
        figure = getattr(value, "figure", None)
        # The figure of axes in a subfigure is the subfigure, whose figure may be another subfigure.
        while figure is not None and not _isinstance(figure, "matplotlib.figure", "Figure"):
            figure = getattr(figure, "figure", None)
        return figure
    return None


def _draw_matplotlib(figure: Any, name: str) -> Carried:
    # A poster at 300 dpi takes seconds to draw, only to be scaled down again.
    dpi = min(figure.dpi, LONG_EDGE_PX / max(figure.get_size_inches()))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    drawn = carry_image(buffer.getvalue(), name)
    if dpi < figure.dpi:
        note = f"{one_line(name)}: drawn at {dpi:.0f} instead of {figure.dpi:.0f} dots an inch"
        return Carried(drawn.content, (note,))
    return drawn


def _save_altair(chart: Any) -> bytes:
    buffer = io.BytesIO()
    chart.save(buffer, format="png")
    return buffer.getvalue()


def _draw(
    name: str, library: str, draw: Callable[[], bytes], specify: Callable[[], str], renderer: str, limit: int
) -> Carried:
    try:
        data = draw()
    except Exception as error:  # no renderer, no browser, no network: the specification is still worth sending
        reason = one_line(str(error) or type(error).__name__, 80)
        text, notes = shorten(specify(), limit - FRAME_CHARACTERS, name)
        note = f"{one_line(name)}: sent as its specification, as {library} could not draw it ({renderer}: {reason})"
        return carry_text(tagged("figure", name, text, type=f"{library} JSON"), note, *notes)
    return carry_image(data, name)


def _repr_image(value: Any) -> bytes | None:
    """Return the image that IPython would show: of ``_repr_png_``, ``_repr_jpeg_`` or ``_repr_mimebundle_``."""
    # Methods are looked up on the class, since a proxy or a mock has an attribute of any name.
    kind = type(value)
    for method in ("_repr_png_", "_repr_jpeg_"):
        if callable(getattr(kind, method, None)):
            data = image_bytes(getattr(value, method)())
            if data is not None:
                return data
    if callable(getattr(kind, "_repr_mimebundle_", None)):
        bundle = value._repr_mimebundle_(include=None, exclude=None)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        if isinstance(bundle, Mapping):
            return image_of_bundle(bundle)
    return None
