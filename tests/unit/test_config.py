"""Settings: default < configuration file < environment < %config < session < line; and the source of each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.errors import OptionError
from nbchat.options import OPTIONS, Options

#: The places where max_tokens can be set, the weakest first.
PLACES = ["default", "file", "environment", "%config", "session", "line"]


@pytest.mark.parametrize("strongest", range(len(PLACES)))
def test_each_place_overrides_the_weaker_ones(strongest: int):
    """The strongest place decides which value is sent, even if all weaker places are set."""
    said = {place: 100 + number for number, place in enumerate(PLACES[: strongest + 1]) if number}
    file = Config({"Nbchat": {"max_tokens": said["file"]}}) if "file" in said else None
    environment = {"NBCHAT_MAX_TOKENS": str(said["environment"])} if "environment" in said else {}
    config = Nbchat(environment, config=file)
    if "%config" in said:
        config.max_tokens = said["%config"]
    transport = ScriptedTransport("Hi")
    session = Session(transport, config=config, **({"max_tokens": said["session"]} if "session" in said else {}))
    session.ask("Hi", **({"max_tokens": said["line"]} if "line" in said else {}))
    assert transport.requests[0].max_tokens == (100 + strongest if strongest else 8192)
    source = {1: "configuration file", 2: "NBCHAT_MAX_TOKENS"}.get(min(strongest, 3), "%config" if strongest else None)
    assert config.sources.get("max_tokens") == source


def test_a_setting_changed_between_cells_is_used_by_the_next_cell():
    """The next cell uses a changed setting, because users change settings with %config between cells."""
    transport = ScriptedTransport("Hi", repeat=True)
    session = Session(transport, config=Nbchat({}))
    session.ask("One")
    session.config.max_tokens = 7
    session.ask("Two")
    assert [request.max_tokens for request in transport.requests] == [8192, 7]


def test_every_setting_is_documented():
    """Each setting has a help text, which %config Nbchat shows."""
    for name, trait in Nbchat({}).traits(config=True).items():
        assert trait.help, name
    text = Nbchat.class_get_help()
    for option in OPTIONS:
        assert (f"--Nbchat.{option.name}=" in text) is option.setting


def test_an_option_for_one_cell_cannot_be_a_setting():
    """An option for one cell is refused as a setting. A file that every cell attaches, for example, is a mistake."""
    names = set(Nbchat.class_trait_names(config=True))
    once = {option.name for option in OPTIONS if not option.setting}
    assert once == {
        *("attach", "cells", "code", "dry_run", "each", "explain", "fix", "go_on", "output", "rows", "schema", "via")
    }
    assert not once & names


ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "NBCHAT_MODEL": ("claude-x", "claude-x"),
    "NBCHAT_MAX_TOKENS": ("77", 77),
    "NBCHAT_BUDGET": ("0.25", 0.25),
    "NBCHAT_THINKING": ("true", True),
    "NBCHAT_STREAM": ("0", False),
    "NBCHAT_STOP": ("END", ["END"]),
    "NBCHAT_IDLE_TIMEOUT": ("3.5", 3.5),
    "NBCHAT_MAX_RETRIES": ("0", 0),
    "NBCHAT_ENDPOINTS": ("{'mine': 'http://localhost:1'}", {"mine": "http://localhost:1"}),
    "NBCHAT_PRICES": ("{'m': {'input': 1, 'output': 2}}", {"m": {"input": 1, "output": 2}}),
    "NBCHAT_LEDGER": ("false", False),
    "NBCHAT_CASSETTE": ("answers.jsonl", "answers.jsonl"),
    "NBCHAT_CASSETTE_MODE": ("replay", "replay"),
}


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_a_variable_of_each_kind(variable: str):
    """A variable can hold a text, a number, a switch, a list or a dict."""
    text, value = ENVIRONMENT[variable]
    name = variable.removeprefix("NBCHAT_").lower()
    config = Nbchat({variable: text})
    assert getattr(config, name) == value
    assert config.sources == {name: variable}


def test_an_empty_variable_is_not_set():
    """An empty variable counts as not set, as in most programs."""
    config = Nbchat({"NBCHAT_MODEL": "", "NBCHAT_MAX_TOKENS": ""})
    assert config.sources == {}
    assert Options.of({}, config.settings()).max_tokens == 8192


def test_the_environment_is_the_one_of_the_process(monkeypatch: pytest.MonkeyPatch):
    """Settings are read from the environment of the process, unless a test passes another one."""
    monkeypatch.setenv("NBCHAT_MODEL", "claude-of-the-shell")
    assert Nbchat().model == "claude-of-the-shell"


def test_settings_of_an_endpoint_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The settings of an endpoint are used: its address, the variable that holds its key, and its timeout."""
    monkeypatch.setenv("MY_GATEWAY_KEY", " gateway-key-01\n")
    config = Nbchat({})
    config.endpoints = {"mine": {"base_url": "http://localhost:1/x", "api_key_env": "MY_GATEWAY_KEY"}}
    config.idle_timeout, config.max_retries = 3.0, 0
    endpoint = Session(config=config).endpoints.find(Options.of({"endpoint": "mine", "model": "m"}))
    transport = endpoint.transport
    assert (endpoint.name, endpoint.model, transport.base_url) == ("mine", "m", "http://localhost:1/x")
    assert (transport._api_key, transport._idle_timeout, transport._max_retries) == ("gateway-key-01", 3.0, 0)
    assert "gateway-key" not in repr(transport) + repr(config.settings())


def test_a_wrong_variable_with_endpoints_shows_no_header():
    """The text may hold headers with keys."""
    with pytest.raises(OptionError) as caught:
        Nbchat({"NBCHAT_ENDPOINTS": "{'lab': {'headers': {'X-Team': 'chem-4567'}}"})
    assert "chem-4567" not in str(caught.value)


def test_importing_settings_loads_no_sdk():
    """Importing the settings does not load the SDK, so the first cell need not wait."""
    import subprocess

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import nbchat.config, sys; print({'anthropic', 'httpx2', 'ipywidgets'} & set(sys.modules))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
