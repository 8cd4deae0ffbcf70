"""Images as content blocks within the API's limits, and figures of the plotting libraries as images.

The limits are in :mod:`nbchat.content.media_types`. Pillow scales images that are too large. Images
that fit are sent as they are, without Pillow.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbchat.content.blocks import Carried, carry_text, one_line, tagged
from nbchat.content.bundles import image_bytes, image_of_bundle
from nbchat.content.cutting import shorten
from nbchat.content.dimensions import read_dimensions
from nbchat.content.media_types import (
    LONG_EDGE_PX,
    MAX_EDGE_PX,
    MAX_IMAGE_BASE64_BYTES,
    base64_size,
    image_type,
    media_block,
)
from nbchat.core.errors import AttachmentError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["carry_image", "carry_picture", "is_picture"]

#: JPEG qualities to try, best first, for an image that is too large as PNG.
JPEG_QUALITIES = (90, 75, 50)
#: Characters of the note and the tags around a figure's specification.
FRAME_CHARACTERS = 80


def carry_image(data: bytes, name: str) -> Carried:
    """Return an image block of image bytes, scaled down if it exceeds the API's limits.

    Raises:
        AttachmentError: The bytes are not an image, or the image is too large and Pillow is not installed.
    """
    media_type, size = image_type(data), read_dimensions(data)
    small = _fits_base64(data)
    if media_type and size and small and max(size) <= LONG_EDGE_PX and _is_whole(media_type, data):
        return _carry_block(media_type, data)
    try:
        from PIL import Image
    except ImportError:
        # The service itself scales images up to its hard limit.
        if media_type and small and (size is None or max(size) <= MAX_EDGE_PX):
            return _carry_block(media_type, data)
        raise _needs_pillow(data, size, name) from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _carry_pil(image, name, source_type=media_type)
    except AttachmentError:
        raise
    except Exception as error:  # Pillow raises many: unknown format, truncated data, decompression bomb
        raise AttachmentError(
            f"{one_line(name)} cannot be read as an image: {error}", "Save it again as PNG or JPEG."
        ) from error


def _needs_pillow(data: bytes, size: tuple[int, int] | None, name: str) -> AttachmentError:
    megabytes = f"{len(data) / 1e6:.1f} MB"
    return AttachmentError(
        f"{one_line(name)} is an image of {f'{size[0]}×{size[1]} px, {megabytes}' if size else megabytes}; "
        f"the limits are {MAX_EDGE_PX}×{MAX_EDGE_PX} px "
        f"and {MAX_IMAGE_BASE64_BYTES / 1e6:.0f} MB as base64, in PNG, JPEG, GIF or WebP",
        "Install Pillow (pip install pillow), or make the image smaller or a PNG.",
    )


def _fits_base64(data: bytes) -> bool:
    return base64_size(len(data)) <= MAX_IMAGE_BASE64_BYTES


def _carry_block(media_type: str, data: bytes, *notes: str) -> Carried:
    block = media_block(media_type, data)
    assert block is not None, media_type
    return Carried((block,), notes)


def _is_whole(media_type: str, data: bytes) -> bool:
    """Return True if the end of the image is there. Formats without a cheap test count as whole."""
    match media_type:
        case "image/png":
            return b"IEND" in data[-64:]
        case "image/webp":
            return len(data) >= int.from_bytes(data[4:8], "little") + 8
        case "image/gif":
            return data.rstrip(b"\0").endswith(b";")
    return True


def _carry_pil(image: Image, name: str, *, source_type: str | None = None) -> Carried:
    """Return an image block of a Pillow image. The image itself is not changed."""
    from PIL import ImageOps

    size_before = image.size
    image = ImageOps.exif_transpose(image)
    # PNG and JPEG have no CMYK with alpha, no HSV, no float pixels.
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    notes: tuple[str, ...] = ()
    if max(image.size) > LONG_EDGE_PX:
        image = _scaled(image)
        before, after = ("×".join(f"{edge:,}" for edge in size) for size in (size_before, image.size))
        notes = (f"{one_line(name)}: {before} px scaled to {after} px",)
    if source_type != "image/jpeg":  # a photo is much larger as PNG
        data = _encode(image, "PNG", optimize=True)
        if _fits_base64(data):
            return _carry_block("image/png", data, *notes)
    opaque = _flatten(image)
    for quality in JPEG_QUALITIES:
        data = _encode(opaque, "JPEG", quality=quality)
        if _fits_base64(data):
            break
    return _carry_block("image/jpeg", data, *(notes or (f"{one_line(name)}: sent as JPEG to fit in 5 MB",)))


def _scaled(image: Image) -> Image:
    from PIL import Image

    # Pixels of these modes are bits or palette indices, which cannot be averaged.
    image = image.convert({"1": "L", "P": "RGBA"}.get(image.mode, image.mode))
    scale = LONG_EDGE_PX / max(image.size)
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _flatten(image: Image) -> Image:
    """Return the image on white, since JPEG has no transparency."""
    from PIL import Image

    if image.mode in ("RGB", "L"):
        return image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _encode(image: Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
        return _carry_pil(value, name)
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
