"""The dimensions of an image, read from its first bytes. Nothing is decoded, and Pillow is not needed."""

from __future__ import annotations

import struct

from nbchat.content.media_types import image_type

__all__ = ["read_dimensions"]


def read_dimensions(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels, or None if the header does not contain them."""
    try:
        match image_type(data):
            case "image/png":
                width, height = struct.unpack(">II", data[16:24])
                return width, height
            case "image/gif":
                width, height = struct.unpack("<HH", data[6:10])
                return width, height
            case "image/webp":
                return _read_webp(data)
            case "image/jpeg":
                return _read_jpeg(data)
    except (struct.error, IndexError):
        pass  # the file is truncated
    return None


def _read_webp(data: bytes) -> tuple[int, int] | None:
    # https://developers.google.com/speed/webp/docs/riff_container
    chunk = data[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF  # the upper two bits are a scale
    return None


def _read_jpeg(data: bytes) -> tuple[int, int] | None:
    # The start-of-frame segment has the size: ITU-T T.81, table B.1.
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        # 0xFF again is padding. TEM and RSTn have no length field.
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        # DHT, JPG and DAC are in the range of the start-of-frame markers, and are not frames.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
