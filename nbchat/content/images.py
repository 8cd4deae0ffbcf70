"""Images as content blocks within the API's limits: the one way for attachments, values, and results of tools.

The limits are in :mod:`nbchat.content.media_types`. Pillow scales images that are too large, and converts
images that the API does not accept or would show wrongly. Images that fit are sent as they are, without Pillow.
"""

from __future__ import annotations

import array
import io
import math
from typing import TYPE_CHECKING, Any

from nbchat.content.blocks import Carried, carry_text, one_line
from nbchat.content.dimensions import read_dimensions
from nbchat.content.media_types import (
    LONG_EDGE_PX,
    MAX_EDGE_PX,
    MAX_IMAGE_BASE64_BYTES,
    base64_size,
    from_base64,
    image_type,
    media_block,
)
from nbchat.core.errors import AttachmentError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["carry_image", "carry_pillow", "image_or_reason"]

#: JPEG qualities to try, best first, for an image that is too large as PNG.
JPEG_QUALITIES = (90, 75, 50)
#: The tag of EXIF for the side that is up: https://www.media.mit.edu/pia/Research/deepview/exif.html
EXIF_ORIENTATION = 0x0112


def carry_image(data: bytes, name: str) -> Carried:
    """Return an image block of image bytes, changed if they exceed the API's limits or would be shown wrongly.

    Raises:
        AttachmentError: The bytes are not a whole image, or the image is too large and Pillow is not installed.
    """
    if not data:
        raise AttachmentError(f"{one_line(name)} is empty, and not an image", "Save the image again.")
    media_type, size = image_type(data), read_dimensions(data)
    small, whole = _fits_base64(data), _is_whole(media_type, data)
    as_it_is = media_type and size and small and max(size) <= LONG_EDGE_PX
    if media_type and as_it_is and whole and not _may_look_wrong(media_type, data):
        return _carry_block(media_type, data)
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        # The service itself scales images up to its hard limit.
        if media_type and size and small and max(size) <= MAX_EDGE_PX and whole:
            return _carry_block(media_type, data)
        raise _needs_pillow(data, size, name) from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            # Cameras write data after the end of a JPEG, such as a film.
            if media_type == "image/jpeg" and as_it_is and not _looks_wrong(image):
                return _carry_block(media_type, data)
            return carry_pillow(image, name, source_type=media_type)
    except AttachmentError:
        raise
    except UnidentifiedImageError:
        reason = "its bytes are not those of an image"
    except Exception as error:  # Pillow raises many: truncated data, a broken header, a decompression bomb
        reason = str(error)
    raise AttachmentError(f"{one_line(name)} cannot be read as an image: {reason}", "Save it again as PNG or JPEG.")


def image_or_reason(data: bytes | str, name: str) -> Carried:
    """Return the image block of what a program made, or a text block that says why there is none.

    One broken image of a tool does not end the turn, and the model reads the reason.

    Args:
        data: The bytes of the image, or their base64, also as a ``data:`` URL.
        name: The name of the image in the text and in notes.
    """
    try:
        if isinstance(data, str):
            encoded, data = data, from_base64(data) or b""
            if encoded and not data:
                raise AttachmentError(f"{one_line(name)} is not base64", "Encode the bytes of the image as base64.")
        return carry_image(data, name)
    except AttachmentError as error:
        return carry_text(f"[not sent: {error.message}]", error.message)


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


def _is_whole(media_type: str | None, data: bytes) -> bool:
    """Return True if the end of the image is there."""
    match media_type:
        case "image/png":
            return b"IEND" in data[-64:]
        case "image/webp":
            return len(data) >= int.from_bytes(data[4:8], "little") + 8
        case "image/gif":
            return data.rstrip(b"\0").endswith(b";")
        case "image/jpeg":
            return data.rstrip(b"\0").endswith(b"\xff\xd9")
    return False


def _may_look_wrong(media_type: str, data: bytes) -> bool:
    """Return True if the bytes may be an image that the service shows wrongly. Nothing is decoded."""
    # The service does not read EXIF, so a photo taken sideways would be sent sideways:
    # https://platform.claude.com/docs/en/build-with-claude/vision#faq
    if b"Exif\0\0" in data[:65_536] or b"eXIf" in data or (media_type == "image/webp" and b"EXIF" in data):
        return True
    if media_type == "image/png":
        return data[24:26] == b"\x10\x00"  # gray with 16 bits a pixel
    return media_type == "image/jpeg" and b"Adobe" in data[:65_536]  # maybe CMYK


def _looks_wrong(image: Image) -> bool:
    sideways = image.getexif().get(EXIF_ORIENTATION, 1) != 1
    return sideways or image.mode == "CMYK"


def carry_pillow(image: Image, name: str, *, source_type: str | None = None) -> Carried:
    """Return an image block of a Pillow image. The image itself is not changed.

    Args:
        image: The image.
        name: Its name in notes and messages.
        source_type: The media type of the file that it was read from.

    Raises:
        AttachmentError: The image has no pixels.
    """
    from PIL import ImageOps

    if 0 in image.size:
        raise AttachmentError(f"{one_line(name)} is an image without pixels", "Check how it was made.")
    size_before, pages = image.size, getattr(image, "n_frames", 1)
    image = ImageOps.exif_transpose(image)
    image, notes = _eight_bit(image, name)
    if max(image.size) > LONG_EDGE_PX:
        image = _scaled(image)
        before, after = ("×".join(f"{edge:,}" for edge in size) for size in (size_before, image.size))
        notes = (*notes, f"{one_line(name)}: {before} px scaled to {after} px")
    if pages > 1:
        notes = (*notes, f"{one_line(name)}: first of {pages:,} images in it")
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


def _eight_bit(image: Image, name: str) -> tuple[Image, tuple[str, ...]]:
    """Return the image in a mode of PNG or JPEG with 8 bits a channel, and a note if values were scaled."""
    if image.mode.startswith("I") or image.mode == "F":
        return _values_to_gray(image, name)
    # PNG and JPEG have no CMYK with alpha and no HSV.
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        # Pillow converts premultiplied alpha only to the same mode with plain alpha.
        plain = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
        image = image.convert(plain or ("RGBA" if "A" in image.getbands() else "RGB"))
    return image, ()


def _values_to_gray(image: Image, name: str) -> tuple[Image, tuple[str, ...]]:
    """Return an image of 16-bit, 32-bit or float values in gray, and a note about the scale.

    Pillow itself cuts values at 0 and 255, so such an image becomes white or black.
    """
    is_16_bit = image.mode.startswith("I;16")
    values = (image.convert("I") if is_16_bit else image).convert("F")
    low, high = _value_range(values)
    if not is_16_bit and low >= 0 and high <= 255:
        # Floats from 0 to 1 and 8-bit values in a wide type are images already. A sensor uses a part of its 16 bits.
        low, high = 0.0, (1.0 if high <= 1 else 255.0)
    elif low == high:
        low, high = 0.0, 65_535.0 if is_16_bit else max(high, 1.0)
    scale = 255 / (high - low)
    gray = values.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    notes = () if high == 255 and low == 0 else (f"{one_line(name)}: values {low:,g} to {high:,g} scaled to 0 to 255",)
    return gray, notes


def _value_range(image: Image) -> tuple[float, float]:
    """Return the lowest and the highest finite value of an image of floats."""
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]  # one channel
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = [value for value in array.array("f", image.tobytes()) if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return low, high


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
