"""Secrets: what must never be shown or stored, and how it is removed from texts.

Two functions remove secrets. :func:`redact` is for texts that must otherwise stay as they are, such as
answers in a cassette. :func:`redact_message` is for messages to people and for the ledger. It removes
more, because a message may lose an innocent word, but an answer must not.

| what | :func:`redact` | :func:`redact_message` |
| --- | --- | --- |
| keys of Anthropic, bearer tokens with a digit | removed | removed |
| a known secret of 8 characters or more | removed | removed |
| a known secret of 2 to 7 characters | stays | removed where it is a word of its own |
| a header's value that does not look like a key | stays | removed where it is a word of its own |
| the password of any URL, a value beside a name such as ``api_key`` | stays | removed |
| a part of the path of an endpoint's URL without a digit | stays | removed where it is a part of a path |
| a key of one character, or a placeholder such as "none" | stays | stays |

A key of one character and a placeholder are not secrets: a server that takes one of them asks for any key
at all, and without them no message could be read.
"""

from __future__ import annotations

import base64
import contextlib
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

__all__ = ["keep_header", "keep_secret", "keep_url", "mask", "redact", "redact_message", "shown_url"]

# The expressions read the text of others, so each is linear in its length: no part of unbounded length begins
# at each character of a run. Without the bounds, 100 kB of "-" in an error took 90 s.

#: Every key and token of Anthropic begins like this.
_KEY = re.compile(r"sk-ant-[A-Za-z0-9_\-]{4,}")
#: A token contains a digit. Without that condition the phrase "Bearer authentication", which many
#: answers about web APIs contain, would be taken for a key.
_BEARER = re.compile(r"(?i)\b(bearer|x-api-key:?)\s+(?=[A-Za-z._~+/\-]*\d)[A-Za-z0-9._~+/\-]{8,}=*")
#: A URL in a text, up to a space, a quotation mark or a bracket.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,30}://[^\s\"'<>()\[\]{}`]+")
#: A shorter secret would be replaced in the middle of ordinary words, so only a message loses it.
MIN_CHARACTERS = 8
#: Servers without accounts want some key, and their guides name these words. They are not secrets, and
#: some of them are also names of endpoints.
_PLACEHOLDERS = frozenset(
    {"none", "null", "empty", "dummy", "key", "test", "token", "xxx", "ollama", "local", "lm-studio", "not-needed"}
)
#: Names of settings, headers and parameters that hold a secret. "max_tokens" is a number of tokens.
_SECRET_NAME = re.compile(r"(?i)key|token(?!s\b)|secret|password|passwd|credential|authorization|cookie|signature")
#: The parts of the path of a base URL that are certainly not a key.
_PLAIN_PARTS = frozenset(
    (
        *("anthropic", "api", "apis", "apps", "bedrock", "chat", "claude", "coding", "compat", "compatible"),
        *("compatibility", "endpoint", "endpoints", "foundry", "gateway", "inference", "latest", "litellm", "llm"),
        *("messages", "model", "models", "ollama", "openai", "openrouter", "paas", "plan", "proxy", "raw", "router"),
        *("serving", "serving-endpoints", "services", "v", "vertex"),
    )
)
#: A part of the path that may be a key.
_PATH_KEY = re.compile(r"[\w.~%+=\-]{2,}")
_VERSION = re.compile(r"v?\d{1,3}(?:\.\d{1,3})?(?:alpha|beta)?\d?")
#: A part of the path of any URL that looks like a key: twelve letters and digits in a row, with both.
_KEY_LIKE = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z0-9]*\d)(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{12,}")

#: A value beside the name of a secret, as Python and JSON write them: ``'api_key': '…'``.
_NAMED_VALUE = re.compile(
    r"""(?ix) (["']) (?P<name> [\w\s.\-]*
        (?: key | token | secret | password | passwd | credentials? | authorization | cookie | signature ) )
    \1 \s* [:=] \s* (?P<quote> ["']) (?P<value> (?: \\. | (?!(?P=quote)) . )* ) (?P=quote)"""
)
#: An address without a scheme, with a password: ``user:password@host``.
_CREDENTIALS = re.compile(r"(?i)(?<![\w/:@])(?!mailto:)([\w.+\-]{1,64}):[^\s@/'\"]{1,1000}@(?=[\w\[])")

_WORD = re.compile(r"[\w.\-]*")

_secrets: set[str] = set()
#: Secrets that are shorter than MIN_CHARACTERS, and others that may be ordinary words.
_short_secrets: set[str] = set()
#: Parts of the paths of endpoints that may be keys or ordinary words.
_path_parts: set[str] = set()


def keep_secret(secret: str | None) -> None:
    """Remember a key, so that it is removed from everything that is shown or stored.

    Keys with fewer than 8 characters are removed by :func:`redact_message` only.
    """
    secret = (secret or "").strip()
    if len(secret) < 2 or secret.lower() in _PLACEHOLDERS:
        return
    (_secrets if len(secret) >= MIN_CHARACTERS else _short_secrets).add(secret)


def keep_header(name: str, value: str) -> None:
    """Remember the value of a header that a person set. Any header can hold a key.

    A value that does not look like a key, and whose header has no name of a key, may be an ordinary word such
    as ``application/json``. Only :func:`redact_message` removes it, so that no answer loses that word.
    """
    value = re.sub(r"(?i)^(bearer|basic|token)\s+", "", value.strip())
    if _SECRET_NAME.search(name) or "auth" in name.lower() or _KEY_LIKE.search(value):
        keep_secret(value)
    elif len(value) >= 2 and value.lower() not in _PLACEHOLDERS:
        _short_secrets.add(value)


def keep_url(url: str) -> None:
    """Remember the secrets in the URL of an endpoint: its password, and keys in its path or query."""
    with contextlib.suppress(ValueError):
        # An address without "https://" is refused, but the message of the error shows the address.
        parts = urllib.parse.urlsplit(url if "://" in url else f"//{url}")
        user, _, password = _credentials(parts.netloc).partition(":")
        if password:
            decoded_user, decoded = urllib.parse.unquote(user), urllib.parse.unquote(password)
            keep_secret(password)
            keep_secret(decoded)
            # The header that is made of both; see https://www.rfc-editor.org/rfc/rfc7617
            keep_secret(base64.b64encode(f"{decoded_user}:{decoded}".encode("utf-8", "replace")).decode())
        for part in parts.path.split("/"):
            if not part or _is_plain(part):
                continue
            if any(character.isdigit() for character in part):
                keep_secret(part)
            elif _PATH_KEY.fullmatch(part):
                _path_parts.add(part)
        for _, value in urllib.parse.parse_qsl(parts.query):
            keep_secret(value)


def _is_word(text: str) -> bool:
    """Return True for a name, an id or a digest: only a key that is known can be in it.

    The ledger has nine of them for each row of a run, and five patterns for each would take longer than SQLite.
    """
    return _WORD.fullmatch(text) is not None and "sk-ant-" not in text


def redact(text: str) -> str:
    """Return ``text`` without keys: ``sk-ant-…``, bearer tokens, and those that :func:`keep_secret` got.

    >>> redact("401 for Authorization: Bearer abcdef0123456")
    '401 for Authorization: Bearer …'
    """
    if not _is_word(text):
        text = _KEY.sub("sk-ant-…", text)
        text = _BEARER.sub(r"\1 …", text)
    # Longest first: where one key is the beginning of another, the rest of the longer one would stay.
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def redact_message(text: str) -> str:
    """Return ``text`` without keys of any length, and without the passwords and keys in URLs.

    >>> redact_message("no answer from https://ada:pw@example.org/v1")
    'no answer from https://ada:…@example.org/v1'
    """
    if _is_word(text):
        text = redact(text)
    else:
        # URLs first: redact() would put "…" into them, and a short secret may be a part of one.
        text = redact(_URL.sub(lambda url: _without_credentials(url[0]), text))
        text = _NAMED_VALUE.sub(lambda pair: pair[0][: pair.start("value") - pair.start()] + "…" + pair["quote"], text)
        text = _CREDENTIALS.sub(r"\1:…@", text)
    for part in sorted(_path_parts, key=len, reverse=True):
        text = re.sub(rf"(?<=/){re.escape(part)}(?![\w\-]|\.\w)", "…", text)
    for secret in sorted(_short_secrets, key=len, reverse=True):
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", "…", text)
    return text


def shown_url(url: str) -> str:
    """Return the URL of an endpoint as it may be shown: without password and query, and with a plain path.

    >>> shown_url("https://ada:pw@example.org:8000/team-7f3a/v1?key=abc")
    'https://ada:…@example.org:8000/…/v1'
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return redact_message(url)
    path = "/".join(part if not part or _is_plain(part) else "…" for part in parts.path.split("/"))
    return f"{parts.scheme}://{_shown_host(parts.netloc)}{path}"


def mask(value: Any, name: str = "") -> Any:
    """Return the value of a setting as it may be shown: without passwords, keys and headers."""
    if isinstance(value, Mapping):
        # Any header of the user's own can hold a key.
        return {key: "…" if name == "headers" else mask(part, str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mask(part, name) for part in value)
    if not isinstance(value, str) or not value:
        return value
    # A variable's name is not a secret, but its value is.
    if _SECRET_NAME.search(name) and not name.endswith("_env"):
        return "…"
    return shown_url(value) if re.fullmatch(_URL, value) else redact_message(value)


def _without_credentials(url: str) -> str:
    """Return a URL in a message without its password, and without parts that look like keys."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return url
    path = "/".join("…" if _KEY_LIKE.search(part) else part for part in parts.path.split("/"))
    query = re.sub(rf"((?:{_SECRET_NAME.pattern[4:]})[^=&]{{0,100}}=)[^&]+", r"\1…", parts.query, flags=re.IGNORECASE)
    shown = f"{parts.scheme}://{_shown_host(parts.netloc)}{path}"
    return shown + (f"?{query}" if query else "") + (f"#{parts.fragment}" if parts.fragment else "")


def _shown_host(netloc: str) -> str:
    credentials, host = _credentials(netloc), netloc.rpartition("@")[2]
    user, colon, _ = credentials.partition(":")
    if not credentials:
        return host
    # Without a password, the name itself may be a token: https://TOKEN@example.org
    return f"{user}:…@{host}" if colon else f"…@{host}"


def _credentials(netloc: str) -> str:
    """Return ``user:password`` of the network location, or ""."""
    return netloc.rpartition("@")[0]


def _is_plain(part: str) -> bool:
    return part.lower() in _PLAIN_PARTS or _VERSION.fullmatch(part) is not None
