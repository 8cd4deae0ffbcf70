"""Images from everywhere: attachments, values, MCP servers, run_python and results of tools go one way."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbchat.content.images import carry_image, carry_pillow, image_or_reason
from nbchat.content.media_types import MAX_IMAGE_BASE64_BYTES, from_base64
from nbchat.context.tool_results import tool_content
from nbchat.core.errors import AttachmentError
from nbchat.notebook.output_record import OutputRecord
from nbchat.tools.mcp_content import content_of

RAMP = np.linspace(0, 1, 1024).reshape(32, 32)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def decoded(block: dict[str, Any]) -> Image.Image:
    assert block["type"] == "image", block
    data = base64.b64decode(block["source"]["data"], validate=True)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert block["source"]["media_type"] == f"image/{(image.format or '').lower()}"
    assert len(block["source"]["data"]) <= MAX_IMAGE_BASE64_BYTES
    return image


# Values that are not 8 bits


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ((RAMP * 4095).astype("uint16"), "values 0 to 4,095 scaled to 0 to 255"),
        ((RAMP * 65535).astype("uint16"), "values 0 to 65,535 scaled to 0 to 255"),
        ((RAMP * 3).astype("uint16"), "values 0 to 3 scaled to 0 to 255"),
        ((RAMP * 1_000_000 - 500).astype("int32"), "values -500 to 999,500 scaled to 0 to 255"),
        ((RAMP * 255).astype("int32"), ""),
        (RAMP.astype("float32"), "values 0 to 1 scaled to 0 to 255"),
        ((RAMP * 255).astype("float32"), ""),
        ((RAMP * 9000 - 40).astype("float32"), "values -40 to 8,960 scaled to 0 to 255"),
    ],
)
def test_values_of_16_bits_32_bits_and_floats_are_scaled_with_a_note(values: np.ndarray, note: str) -> None:
    image = Image.fromarray(values)
    carried = carry_pillow(image, "scan")
    assert decoded(carried.content[0]).getextrema() == (0, 255)
    assert carried.notes == ((f"scan: {note}",) if note else ())
    if image.mode == "I;16":
        again = carry_image(encoded(image), "scan")
        assert again.notes == carried.notes
        assert decoded(again.content[0]).getextrema() == (0, 255)
    if image.mode == "F":
        assert carry_image(encoded(image, "TIFF"), "scan").content == carried.content


def test_infinite_values_do_not_hide_the_others() -> None:
    values = (RAMP * 100 + 300).astype("float32")
    values[0, 0], values[5, 5], values[6, 6], values[7, 7] = np.nan, np.inf, -np.inf, np.nan
    carried = carry_pillow(Image.fromarray(values), "depth")
    assert decoded(carried.content[0]).getextrema() == (0, 255)
    assert carried.notes[0].startswith("depth: values 300.")
    for nothing in (np.full((4, 4), np.nan, "float32"), np.full((4, 4), -7, "float32")):
        assert decoded(carry_pillow(Image.fromarray(nothing), "x").content[0]).getextrema() == (0, 0)


def test_an_image_of_one_16_bit_value_is_a_gray_of_the_whole_range() -> None:
    carried = carry_pillow(Image.new("I;16", (4, 4), 32_768), "flat")
    assert decoded(carried.content[0]).getextrema() == (128, 128)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "CMYK", "RGBa", "RGBX", "YCbCr"])
def test_every_mode_keeps_its_brightness(mode: str) -> None:
    gray = Image.fromarray((RAMP * 255).astype("uint8")).convert("RGBA" if mode == "RGBa" else "L")
    image = gray.convert("P").convert(mode) if mode == "PA" else gray.convert(mode)
    low, high = decoded(carry_pillow(image, "x").content[0]).convert("L").getextrema()
    assert low < 10
    assert high > 245


def test_a_jpeg_in_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG")
    red, green, blue = decoded(carry_image(data, "print").content[0]).convert("RGB").getpixel((10, 10))
    assert red > 200
    assert green < 60
    assert blue < 60


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_photo_that_was_taken_sideways_is_turned(kind: str) -> None:
    image = Image.new("RGB", (60, 40), "black")
    image.paste("white", (0, 0, 30, 40))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = decoded(carry_image(encoded(image, kind, exif=exif), "photo").content[0]).convert("L")
    assert turned.size == (40, 60)
    assert turned.getpixel((20, 5)) > 200, "the left half is up"
    assert turned.getpixel((20, 55)) < 50


def test_a_photo_that_is_upright_is_sent_as_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    data = encoded(Image.new("RGB", (60, 40), "teal"), "JPEG", exif=exif)
    assert base64.b64decode(carry_image(data, "photo").content[0]["source"]["data"]) == data


def test_of_several_pages_the_first_is_sent_with_a_note() -> None:
    pages = [Image.new("L", (8, 8), shade) for shade in (10, 20, 30)]
    carried = carry_image(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), "fax")
    assert carried.notes == ("fax: first of 3 images in it",)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(AttachmentError, match=r"^x is an image without pixels"):
        carry_pillow(Image.new("RGB", (0, 4)), "x")
    with pytest.raises(AttachmentError, match=r"^x is empty"):
        carry_image(b"", "x")


# Images of programs

PNG = encoded(Image.new("RGB", (30, 20), "teal"))
TALL = encoded(Image.new("RGB", (100, 9000), "teal"))
ANIMATED = encoded(
    Image.new("P", (20, 20), 1), "GIF", save_all=True, append_images=[Image.new("P", (20, 20), 2)], duration=50
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="5"/></svg>'


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def by_mcp(data: str, media_type: str) -> dict[str, Any]:
    (block,) = content_of(SimpleNamespace(type="image", data=data, mime_type=media_type))
    return block


def by_resource(data: str, media_type: str) -> dict[str, Any]:
    resource = SimpleNamespace(blob=data, mime_type=media_type, uri="file:///a")
    (block,) = content_of(SimpleNamespace(type="resource", resource=resource))
    return block


def by_tool(data: str, media_type: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    (block,) = tool_content([{"type": "image", "source": source}])
    return block


def by_run_python(data: str, media_type: str) -> dict[str, Any]:
    record = OutputRecord(1_000)
    record.show({"image/png": data, "text/plain": "<Figure size 1x1 with 1 Axes>"})
    (block,) = record.content()
    return block


WAYS = [by_mcp, by_resource, by_tool, by_run_python]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("data", "media_type", "size"),
    [
        (text64(PNG), "image/png", (30, 20)),
        (text64(PNG), "image/jpeg", (30, 20)),
        (text64(PNG), "image/jpg", (30, 20)),
        (text64(PNG), "IMAGE/PNG; charset=binary", (30, 20)),
        ("data:image/png;base64," + text64(PNG), "image/png", (30, 20)),
        (base64.encodebytes(PNG).decode(), "image/png", (30, 20)),
        (base64.urlsafe_b64encode(PNG).decode().rstrip("="), "image/png", (30, 20)),
        (text64(TALL), "image/png", (17, 1568)),
        (text64(ANIMATED), "image/gif", (20, 20)),
        (text64(encoded(Image.new("RGB", (9, 9)), "WEBP")), "image/webp", (9, 9)),
        (text64(encoded(Image.new("RGB", (9, 9)), "BMP")), "image/bmp", (9, 9)),
        (text64(encoded(Image.new("I;16", (9, 9), 700))), "image/png", (9, 9)),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_an_image_of_a_program_is_one_that_the_api_takes(way: Any, data: str, media_type: str, size: Any) -> None:
    assert decoded(way(data, media_type)).size == size


@pytest.fixture(scope="module")
def noise() -> str:
    """Return an image of 10 MB as base64. It is not made when the tests are collected, because that takes a second."""
    return text64(encoded(Image.effect_noise((1900, 1900), 120).convert("RGB"), compress_level=0))


@pytest.mark.parametrize("way", WAYS)
def test_a_large_image_of_a_program_is_scaled(way: Any, noise: str) -> None:
    assert decoded(way(noise, "image/png")).size == (1568, 1568)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", ["", "%%%", "data:image/png;base64,", text64(PNG[:40]), text64(b"no image"), "A"])
def test_a_broken_image_of_a_program_is_a_text_that_says_so(way: Any, data: str) -> None:
    block = way(data, "image/png")
    assert block["type"] == "text"
    assert block["text"].strip()
    if way is not by_run_python:
        assert block["text"].startswith("[not sent: ")


def test_svg_and_text_of_a_server_are_sent_as_text() -> None:
    assert by_mcp(text64(SVG), "image/svg+xml")["text"] == f"[the image]\n{SVG.decode()}"
    assert by_resource(text64("größe".encode()), "text/csv")["text"] == "[file:///a]\ngröße"
    assert by_resource(text64(PNG), "application/octet-stream")["type"] == "image"
    assert by_resource(text64(b"%PDF-1.7 %%EOF"), "")["type"] == "document"


def test_the_reason_is_a_note_too() -> None:
    carried = image_or_reason(b"x", "chart")
    assert carried.text == "[not sent: chart cannot be read as an image: its bytes are not those of an image]"
    assert carried.notes == ("chart cannot be read as an image: its bytes are not those of an image",)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("YQ==", b"a"),
        ("YQ", b"a"),
        (" Y\nQ= =", b"a"),
        ("-_-_", b"\xfb\xff\xbf"),
        ("data:;base64,YQ==", b"a"),
        ("data:image/svg+xml,%3Csvg/%3E", b"<svg/>"),
        ("DATA:image/png;BASE64,YQ%3D%3D", b"a"),
        ("", None),
        ("?", None),
        ("YQ===YQ", None),
        ("größe", None),
    ],
)
def test_base64_as_programs_write_it(text: str, data: bytes | None) -> None:
    assert from_base64(text) == data


# Values with a "type" of the user's own


@pytest.mark.parametrize(
    "value",
    [
        {"type": "text", "text": None},
        {"type": "text"},
        {"type": "text", "text": "a", "score": 1},
        {"type": ["text"], "text": "a"},
        [{"type": "document", "source": "handbook.pdf"}],
        {"type": "document", "source": {"type": "weird"}},
        {"type": "document", "source": {"type": "base64", "media_type": "image/png", "data": ""}},
        {"type": "image"},
        {"type": "image", "source": "a.png"},
        {"type": "image", "source": {"type": "url", "url": None}},
        {"type": "image", "source": {"type": "base64", "data": "YQ=="}},
        {"type": "search_result", "content": "found", "source": "s", "title": "t"},
        {"type": "tool_reference", "tool_name": None},
        {"type": "Point", "coordinates": [1, 2]},
        [{"type": "text", "text": "a"}, {"type": "text", "text": 3}],
        [{"type": "text", "text": "a"}, "b"],
    ],
)
def test_a_value_that_only_has_a_type_is_json(value: Any) -> None:
    (block,) = tool_content(value)
    assert set(block) == {"type", "text"}
    text = block["text"].removeprefix('<json name="result">').removesuffix("</json>")
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}, "title": "t"},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        {
            "type": "search_result",
            "content": [{"type": "text", "text": "a"}],
            "source": "s",
            "title": "t",
            "citations": {"enabled": True},
        },
        {"type": "tool_reference", "tool_name": "weather"},
    ],
)
def test_a_block_that_the_api_takes_is_sent_as_it_is(block: dict[str, Any]) -> None:
    assert tool_content(block) == (block,)
    assert tool_content([block, block]) == (block, block)


def test_the_base64_of_a_document_is_cleaned() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "data:application/pdf;base64,JVBE\nRi0="}
    (block,) = tool_content({"type": "document", "source": source, "title": "t"})
    assert block == {"type": "document", "source": {**source, "data": "JVBERi0="}, "title": "t"}
    (block,) = tool_content({"type": "document", "source": {**source, "data": "%"}})
    assert block == {"type": "text", "text": "[not sent: the document is not base64]"}
