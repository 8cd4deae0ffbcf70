"""Tests of server tools: their versions, the limit of uses and the domains."""

from __future__ import annotations

import typing

import pytest

from nbchat.core.errors import OptionError
from nbchat.engine.draft import Draft, compose
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.fitting import fit_model, request_to
from nbchat.models import SERVER_TOOL_TYPES
from nbchat.notebook.line import parse
from nbchat.options import Options

ALL = "--web-search --web-fetch --code-execution"
NEWEST = ["web_search_20260318", "web_fetch_20260318", "code_execution_20260521"]
BASIC = ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825"]


def draft(line: str, **given: object) -> Draft:
    return compose("Hi", Options.of({**parse(line).given, **given}))


def at(name: str, model: str, api: str | None = None) -> Endpoint:
    return Endpoint(name, model, lambda: None, api=api)  # type: ignore[arg-type, return-value]


def types(draft: Draft, endpoint: Endpoint) -> list[str]:
    return [tool["type"] for tool in request_to(draft, endpoint).tools]


def test_the_versions_are_those_of_the_installed_sdk():
    """The newest version is the last one that the SDK has a type for."""
    from anthropic.types import tool_union_param

    listed = {
        typing.get_args(typing.get_type_hints(member, include_extras=False)["type"])[0]
        for member in typing.get_args(tool_union_param.ToolUnionParam)
        if "type" in typing.get_type_hints(member)
    } - {None}
    for name, (newest, basic) in SERVER_TOOL_TYPES.items():
        versions = sorted(str(kind) for kind in listed if str(kind).startswith(f"{name}_2"))
        assert newest == versions[-1]
        assert basic in versions


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (at("anthropic", "claude-sonnet-5-5"), NEWEST),
        (at("anthropic", "claude-opus-4-6"), NEWEST),
        (at("anthropic", "claude-mythos-preview"), NEWEST),
        (at("anthropic", "claude-haiku-4-5-20251001"), BASIC),  # its code cannot call other tools
        (at("anthropic", "claude-opus-4-5"), BASIC),
        (at("anthropic", "claude-sonnet-5-5", api=""), BASIC),  # a gateway in the place of the API
        (at("foundry", "claude-sonnet-5-5"), BASIC),  # deployments on Azure have only these
        (at("vertex", "claude-sonnet-5-5"), BASIC),
        (at("http://127.0.0.1:1", "claude-sonnet-5-5"), BASIC),
        (at("mine", "qwen"), BASIC),
    ],
)
def test_the_newest_versions_go_where_model_and_endpoint_take_them(endpoint: Endpoint, expected: list[str]):
    assert types(draft(ALL), endpoint) == expected


def test_the_models_api_overrides_the_name():
    """A model whose code cannot call web search gets the basic versions."""
    endpoint = at("anthropic", "claude-haiku-5-5")
    asked = draft(ALL)
    can = {"capabilities": {"code_execution": {"supported": False}}}
    fitted, request = fit_model(asked, request_to(asked, endpoint), endpoint, lambda endpoint: can)
    assert [tool["type"] for tool in request.tools] == BASIC
    assert types(fitted, endpoint) == BASIC
    _, request = fit_model(asked, request_to(asked, endpoint), endpoint, lambda endpoint: {})
    assert [tool["type"] for tool in request.tools] == NEWEST


@pytest.mark.parametrize(
    ("endpoint", "flag"),
    [
        ("bedrock", "--web-search"), ("bedrock", "--web-fetch"), ("bedrock", "--code-execution"),
        ("vertex", "--web-fetch"), ("vertex", "--code-execution"), ("local", "--web-search"),
    ],
)  # fmt: skip
def test_an_endpoint_without_the_tool_refuses_it(endpoint: str, flag: str):
    """Before anything is sent. A definition in ``--param`` is left to the endpoint."""
    place = at(endpoint, "claude-sonnet-5-5")
    asked = draft(flag)
    with pytest.raises(OptionError, match=f"{flag}: the endpoint '{endpoint}'"):
        fit_model(asked, request_to(asked, place), place, lambda endpoint: {})
    own = draft("""--param 'tools={"type": "web_search_20250305", "name": "web_search"}'""")
    fit_model(own, request_to(own, place), place, lambda endpoint: {})


def test_uses_and_domains_are_settings_of_both_web_tools():
    """Domains are separated by commas, by spaces or by another flag. Repeated ones are sent once."""
    asked = draft("--web-search --web-fetch --max-uses 3 --allowed-domains a.org,b.org/blog --allowed-domains a.org")
    search, fetch = request_to(asked, at("anthropic", "claude-sonnet-5-5")).tools
    assert search == {
        "type": "web_search_20260318", "name": "web_search", "max_uses": 3, "allowed_domains": ["a.org", "b.org/blog"],
    }  # fmt: skip
    assert fetch == {**search, "type": "web_fetch_20260318", "name": "web_fetch", "citations": {"enabled": True}}
    blocked = draft("--web-search", blocked_domains=["a.org", "x.a.org/*/b"])
    assert blocked.server_tools["web_search"] == {"blocked_domains": ["a.org", "x.a.org/*/b"]}
    body = parse("--web-search --allowed-domains a.org b.org --max-uses 2", has_body=True)
    assert compose("Hi", Options.of(body.given)).server_tools["web_search"] == {
        "max_uses": 2, "allowed_domains": ["a.org", "b.org"],
    }  # fmt: skip


def test_code_execution_has_no_uses_and_domains():
    asked = draft("--web-search --code-execution --max-uses 3")
    assert asked.server_tools["code_execution"] == {}


@pytest.mark.parametrize(
    ("domain", "hint"),
    [
        ("https://a.org", "--allowed-domains a.org"), ("http://a.org/b", "--allowed-domains a.org/b"),
        ("*.a.org", "subdomains"), ("ex*.com", "subdomains"), ("a.org/*/b/*", "first *"), ("localhost", "example.org"),
        ("a.org:8080", "example.org"), ("a b.org", "example.org"), ("ada@a.org", "example.org"),
        ("/blog", "example.org"), ("a.org/x?y=1", "example.org"), ("a..org", "example.org"),
        ("\u0430.org", "xn--"), ("münchen.de", "xn--"),
    ],
)  # fmt: skip
def test_a_domain_that_the_api_refuses_is_never_sent(domain: str, hint: str):
    with pytest.raises(OptionError) as caught:
        draft("--web-search", allowed_domains=[domain])
    assert caught.value.message.startswith(f"--allowed-domains {domain}: ")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--web-search --allowed-domains a.org --blocked-domains b.org", "only one of them"),
        ("--web-search --blocked-domains ,", "--blocked-domains names no domain"),
        ("--max-uses 3", "--max-uses: this request offers neither"),
        ("--code-execution --allowed-domains a.org", "--allowed-domains: this request offers neither"),
        ("--blocked-domains a.org", "--blocked-domains: this request offers neither"),
    ],
)
def test_options_of_the_web_tools_are_never_ignored(line: str, said: str):
    with pytest.raises(OptionError, match=said):
        draft(line)


def test_as_settings_they_wait_for_a_web_tool():
    """``c.Nbchat.max_uses`` is for the requests that search."""
    settings = {"max_uses": 2, "blocked_domains": ("a.org",)}
    assert compose("Hi", Options.of({}, settings)).server_tools == {}
    searching = compose("Hi", Options.of({"web_search": True}, settings))
    assert searching.server_tools == {"web_search": {"max_uses": 2, "blocked_domains": ["a.org"]}}


def test_fetched_pages_are_not_cited_in_structured_outputs():
    """The API refuses citations together with ``output_config.format``. Other ways to ask for a type keep them."""
    asked = compose("Hi", Options.of({"web_fetch": True}), schema=list[int])
    assert "citations" not in request_to(asked, at("anthropic", "claude-sonnet-5-5")).tools[0]
    assert "citations" in request_to(asked, at("mine", "claude-sonnet-5-5")).tools[0]
