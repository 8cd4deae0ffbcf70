"""Images as content blocks, within the API's limits; figures of the plotting libraries as images.

https://platform.claude.com/docs/en/build-with-claude/vision: JPEG, PNG, GIF and WebP; at most
8000 × 8000 px; 5 MB as base64 (https://platform.claude.com/docs/en/api/errors, invalid requests);
what is longer than 1568 px on an edge is scaled down by the service, and only costs time.
Pillow does the scaling; images that need none go through without it.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import sys
from collections.abc import Mapping
from typing import Any

from nbchat.content.blocks import Carried, one_line, shorten, tagged
from nbchat.core.errors import AttachmentError

__all__ = ["carry_image", "carry_picture", "dimensions", "image_tokens", "is_picture", "media_type"]

LONG_EDGE = 1568
HARD_EDGE = 8000
BASE64_BYTES = 5_000_000
MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_NEED_PILLOW = "Install Pillow (pip install 'nbchat[data]'), or make the image smaller or a PNG."


def media_type(data: bytes) -> str | None:
    """The media type of image bytes that the API takes, by their signature; None for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, read from the header; None where it says nothing."""
    try:
        match media_type(data):
            case "image/png":
                return struct.unpack(">II", data[16:24])
            case "image/gif":
                return struct.unpack("<HH", data[6:10])
            case "image/webp":
                return _webp(data)
            case "image/jpeg":
                return _jpeg(data)
    except (struct.error, IndexError):
        pass
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    # https://developers.google.com/speed/webp/docs/riff_container
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    # The size is in the start-of-frame segment: ITU-T T.81, table B.1.
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def image_tokens(data: str | None) -> int:
    """About width × height / 750 tokens, after the service has scaled the image to its long edge."""
    try:
        size = dimensions(base64.b64decode(data or ""))
    except (binascii.Error, ValueError):
        size = None
    width, height = size or (1092, 1092)  # an image of a URL or file id: the largest square not scaled
    scale = min(1.0, LONG_EDGE / max(width, height, 1))
    return max(1, round(width * height * scale * scale / 750))


def carry_image(data: bytes, name: str) -> Carried:
    """An image block of image bytes, scaled down where the API's limits ask for it.

    Raises:
        AttachmentError: no image, or too large and Pillow is not there to make it smaller.
    """
    kind, size = media_type(data), dimensions(data)
    fits = kind is not None and size is not None and max(size) <= LONG_EDGE and _whole(kind, data)
    if fits and _base64_length(len(data)) <= BASE64_BYTES:
        return Carried((_block(kind, data),))
    try:
        from PIL import Image
    except ImportError:
        allowed = kind is not None and (size is None or max(size) <= HARD_EDGE)
        if allowed and _base64_length(len(data)) <= BASE64_BYTES:
            return Carried((_block(kind, data),))
        what = f"{size[0]}×{size[1]} px, {len(data) / 1e6:.1f} MB" if size else f"{len(data) / 1e6:.1f} MB"
        raise AttachmentError(
            f"{one_line(name)} is an image of {what}; the limits are {HARD_EDGE}×{HARD_EDGE} px "
            f"and {BASE64_BYTES / 1e6:.0f} MB as base64, in PNG, JPEG, GIF or WebP",
            _NEED_PILLOW,
        ) from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _carry_pil(image, name, source=kind)
    except AttachmentError:
        raise
    except Exception as error:  # Pillow has many: unknown format, truncated data, decompression bomb
        raise AttachmentError(
            f"{one_line(name)} cannot be read as an image: {error}", "Save it again as PNG or JPEG."
        ) from error


def _whole(kind: str, data: bytes) -> bool:
    """Whether the end of the image is there, as far as its format tells cheaply."""
    match kind:
        case "image/png":
            return b"IEND" in data[-64:]
        case "image/webp":
            return len(data) >= int.from_bytes(data[4:8], "little") + 8
        case "image/gif":
            return data.rstrip(b"\0").endswith(b";")
    return True


def _carry_pil(image: Any, name: str, *, source: str | None = None) -> Carried:
    """An image block of a Pillow image, which stays as it is."""
    from PIL import Image, ImageOps

    before = image.size
    image = ImageOps.exif_transpose(image)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    notes: tuple[str, ...] = ()
    if max(image.size) > LONG_EDGE:
        image = image.convert({"1": "L", "P": "RGBA"}.get(image.mode, image.mode))
        scale = LONG_EDGE / max(image.size)
        image = image.resize([max(1, round(edge * scale)) for edge in image.size], Image.Resampling.LANCZOS)
        was, now = ("×".join(f"{edge:,}" for edge in size) for size in (before, image.size))
        notes = (f"{one_line(name)}: {was} px scaled to {now} px",)
    if source != "image/jpeg":
        data = _encode(image, "PNG", optimize=True)
        if _base64_length(len(data)) <= BASE64_BYTES:
            return Carried((_block("image/png", data),), notes)
    flat = _flatten(image)
    for quality in (90, 75, 50):
        data = _encode(flat, "JPEG", quality=quality)
        if _base64_length(len(data)) <= BASE64_BYTES:
            break
    return Carried((_block("image/jpeg", data),), notes or (f"{one_line(name)}: sent as JPEG to fit in 5 MB",))


def _flatten(image: Any) -> Any:
    """The image on white: JPEG has no transparency."""
    from PIL import Image

    if image.mode in ("RGB", "L"):
        return image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _encode(image: Any, kind: str, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def _base64_length(count: int) -> int:
    return (count + 2) // 3 * 4


def _block(kind: str | None, data: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": encoded}}


def _loaded(module: str, name: str) -> Any:
    """A class of a module that is loaded already: a library is never imported to test a type."""
    return getattr(sys.modules.get(module), name, None)


def _isinstance(value: Any, module: str, name: str) -> bool:
    kind = _loaded(module, name)
    return isinstance(kind, type) and isinstance(value, kind)


def is_picture(value: Any) -> bool:
    """Whether :func:`carry_picture` may have an image of it; cheap, and draws nothing."""
    return (
        _figure_of(value) is not None
        or _isinstance(value, "PIL.Image", "Image")
        or _isinstance(value, "plotly.basedatatypes", "BaseFigure")
        or _isinstance(value, "altair", "TopLevelMixin")
        or any(callable(getattr(type(value), name, None)) for name in ("_repr_png_", "_repr_jpeg_"))
    )


def carry_picture(value: Any, name: str, limit: int) -> Carried | None:
    """The image of a figure, a Pillow image, or whatever shows itself as one; None for all else.

    A plotly or altair figure that cannot be drawn here goes as its specification, in at most
    ``limit`` characters.
    """
    figure = _figure_of(value)
    if figure is not None:
        return _draw_matplotlib(figure, name)
    if _isinstance(value, "PIL.Image", "Image"):
        return _carry_pil(value, name)
    if _isinstance(value, "plotly.basedatatypes", "BaseFigure"):
        return _draw(name, "plotly", lambda: value.to_image(format="png"), value.to_json, "kaleido", limit)
    if _isinstance(value, "altair", "TopLevelMixin"):
        return _draw(name, "altair", lambda: _save_altair(value), value.to_json, "vl-convert-python", limit)
    data = _shown_image(value)
    return None if data is None else carry_image(data, name)


def _figure_of(value: Any) -> Any:
    """The matplotlib figure of a figure, of axes, or of a seaborn grid."""
    if _loaded("matplotlib.figure", "Figure") is None:
        return None
    if _isinstance(value, "matplotlib.figure", "Figure"):
        return value
    holds = _isinstance(value, "matplotlib.axes", "Axes") or _isinstance(value, "matplotlib.figure", "SubFigure")
    if holds or type(value).__module__.partition(".")[0] == "seaborn":
        figure = getattr(value, "figure", None)
        while figure is not None and not _isinstance(figure, "matplotlib.figure", "Figure"):
            figure = getattr(figure, "figure", None)
        return figure
    return None


def _draw_matplotlib(figure: Any, name: str) -> Carried:
    inches = max(figure.get_size_inches())
    dpi = min(figure.dpi, LONG_EDGE / inches)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=dpi, bbox_inches="tight")
    drawn = carry_image(held.getvalue(), name)
    if dpi < figure.dpi:
        note = f"{one_line(name)}: drawn at {dpi:.0f} instead of {figure.dpi:.0f} dots an inch"
        return Carried(drawn.content, (note,))
    return drawn


def _save_altair(chart: Any) -> bytes:
    held = io.BytesIO()
    chart.save(held, format="png")
    return held.getvalue()


def _draw(name: str, library: str, draw: Any, specify: Any, needs: str, limit: int) -> Carried:
    try:
        data = draw()
    except Exception as error:  # no renderer, no browser, no network: the figure itself is still worth sending
        reason = one_line(str(error) or type(error).__name__, 80)
        text, notes = shorten(specify(), limit - 80, name)
        note = f"{one_line(name)}: sent as its specification, as {library} could not draw it ({needs}: {reason})"
        text = tagged("figure", name, text, type=f"{library} JSON")
        return Carried(({"type": "text", "text": text},), (note, *notes))
    return carry_image(data, name)


def _shown_image(value: Any) -> bytes | None:
    """The image that IPython would show: ``_repr_mimebundle_``, ``_repr_png_``, ``_repr_jpeg_``.

    The methods are looked up on the class, as a proxy or a mock answers to any name.
    """
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


def image_of_bundle(bundle: Mapping[str, Any]) -> bytes | None:
    """The image of a mimebundle, if it holds one the API takes."""
    for mime in MEDIA_TYPES:
        data = image_bytes(bundle.get(mime))
        if data is not None:
            return data
    return None


def image_bytes(shown: Any) -> bytes | None:
    """Bytes of what a repr method gave: bytes, base64 text, or a pair of that and metadata."""
    if isinstance(shown, tuple) and shown:
        shown = shown[0]
    if isinstance(shown, str):
        try:
            shown = base64.b64decode(shown)
        except (binascii.Error, ValueError):
            return None
    return bytes(shown) if isinstance(shown, bytes | bytearray | memoryview) and len(shown) else None
