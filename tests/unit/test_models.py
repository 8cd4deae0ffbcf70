"""Tests of the facts that nbchat derives from the name of a model or an endpoint."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbchat.models import (
    DEFAULT_MODEL,
    FREE,
    KNOWN_MODELS,
    LOCAL,
    PLATFORMS,
    Model,
    context_window,
    is_regional,
    price_model,
    structured_method,
    telemetry_name,
)

#: Each row has a name, its family, its version, the form of its thinking, and True if it has structured outputs.
NAMES = [
    # The Anthropic API
    ("claude-sonnet-5-5", "sonnet", (5, 5), "adaptive", True),
    ("claude-fable-5", "fable", (5, 0), "adaptive", True),
    ("claude-opus-4-8", "opus", (4, 8), "adaptive", True),
    ("claude-opus-4-6", "opus", (4, 6), "adaptive", True),
    ("claude-haiku-4-5", "haiku", (4, 5), "enabled", True),
    ("claude-haiku-4-5-20251001", "haiku", (4, 5), "enabled", True),
    ("claude-opus-4-1-20250805", "opus", (4, 1), "enabled", True),
    ("claude-sonnet-4-20250514", "sonnet", (4, 0), "enabled", False),
    ("claude-3-7-sonnet-20250219", "sonnet", (3, 7), "enabled", False),
    ("claude-3-5-haiku-20241022", "haiku", (3, 5), "enabled", False),
    ("claude-3-5-haiku-latest", "haiku", (3, 5), "enabled", False),
    ("claude-opus-10-12", "opus", (10, 12), "adaptive", True),
    ("claude-mythos-preview", "mythos", None, "adaptive", True),
    # Bedrock: the name has an inference profile as prefix, and a date and a revision as suffix
    ("us.anthropic.claude-sonnet-4-6-v1:0", "sonnet", (4, 6), "adaptive", True),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "sonnet", (4, 5), "enabled", True),
    ("anthropic.claude-haiku-4-5-20251001-v1:0", "haiku", (4, 5), "enabled", True),
    ("anthropic.claude-3-opus-20240229-v1:0", "opus", (3, 0), "enabled", False),
    ("global.anthropic.claude-opus-5-5", "opus", (5, 5), "adaptive", True),
    # Vertex, and the names of its price list
    ("claude-opus-4-5@20251101", "opus", (4, 5), "enabled", True),
    ("claude-opus-4-1@20250805", "opus", (4, 1), "enabled", True),
    ("claude-4-sonnet", "sonnet", (4, 0), "enabled", False),
    # Gateways, other vendors and files
    ("anthropic/claude-opus-4.1", "opus", (4, 1), "enabled", True),
    ("some-model", "", None, "adaptive", True),
    ("llama-4-scout-17b-16e-instruct", "", None, "adaptive", True),
    ("~/models/SmolLM2-135M-Instruct-Q4_K_M.gguf", "", None, "adaptive", True),
    ("", "", None, "adaptive", True),
]


@pytest.mark.parametrize(("name", "family", "version", "thinking", "structured"), NAMES)
def test_family_and_version_are_read_from_a_name(name, family, version, thinking, structured):
    """The family and version are read from the name of each platform. A date or a revision is not a version."""
    model = Model.of(name)
    assert model == (family, version)
    assert model.thinking == thinking
    assert model.has_structured_outputs is structured


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_every_model_that_completion_suggests_is_parsed(name: str):
    """The parser reads every name that this module suggests.

    An unread name would get the settings of an unknown model.
    """
    assert Model.of(name).family
    assert Model.of(name).version
    assert DEFAULT_MODEL in KNOWN_MODELS


@pytest.mark.parametrize(
    ("endpoint", "model", "method"),
    [
        ("anthropic", "claude-sonnet-5-5", "format"),
        ("anthropic", "claude-haiku-4-5-20251001", "format"),
        ("anthropic", "claude-opus-4-1-20250805", "format"),
        ("anthropic", "claude-sonnet-4-20250514", "tool"),
        ("anthropic", "claude-3-5-haiku-20241022", "tool"),
        ("foundry", "claude-opus-4-6", "format"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "format"),
        ("vertex", "claude-opus-4-6", "tool"),
        ("http://127.0.0.1:1/", "qwen", "tool"),
    ],
)
def test_the_method_of_structured_answers_for_an_endpoint(endpoint: str, model: str, method: str):
    """A request uses structured outputs if the model is known to have them. Otherwise it uses a forced tool."""
    assert structured_method(endpoint, model) == method


@pytest.mark.parametrize(
    ("name", "regional"),
    [("claude-3-opus", False), ("claude-4-opus", False), ("claude-opus-4-1", False), ("claude-sonnet-4-5", True),
     ("claude-opus-5-5", True), ("claude-mythos-preview", True)],
)  # fmt: skip
def test_regions_cost_more_from_version_4_5_on(name: str, regional: bool):
    """Regional prices apply from version 4.5 on. The names are those of Google Cloud in genai-prices."""
    assert Model.of(name).has_regional_prices is regional


def test_each_platform_is_described_completely():
    """Each platform has a client in the SDK, a provider in genai-prices, and a hint for a missing setting."""
    import anthropic
    from genai_prices.data import providers

    listed = {provider.id for provider in providers}
    for name, platform in PLATFORMS.items():
        assert hasattr(anthropic, platform.client), name
        assert platform.price_provider in listed, name
        assert platform.setup or name == "anthropic"
    assert LOCAL in FREE
    assert not FREE & set(PLATFORMS)


def test_names_in_telemetry():
    """A platform has the name that the OpenTelemetry conventions define. A user's own server keeps its name."""
    names = ("anthropic", "bedrock", "vertex", "foundry", "local", "my-server")
    assert [telemetry_name(name) for name in names] == [
        *("anthropic", "aws.bedrock", "gcp.vertex_ai", "azure.ai.inference", "llama.cpp", "my-server"),
    ]


def test_the_context_window_of_a_listed_model():
    """The window is in tokens. It is None for a model that is missing from the price list."""
    assert context_window("claude-sonnet-5-5", "anthropic") == 1_000_000
    assert context_window("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock") == 200_000
    assert context_window("claude-sonnet-5-5", "https://api.anthropic.com") == 1_000_000
    assert context_window("no-such-model", "anthropic") is None
    assert context_window("claude-sonnet-5-5", "my-server") is None


def test_names_do_not_load_the_price_list():
    """No name loads the price list, which takes 0.3 s. Completion needs the names at the first Tab."""
    code = "import sys, nbchat.models; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("endpoint", "asked", "answered", "priced"),
    [
        # On Bedrock only the id in the request has the region, and a tenth of the price is at stake.
        ("bedrock", "global.anthropic.claude-opus-5-5", "claude-opus-5-5", "global.anthropic.claude-opus-5-5"),
        ("bedrock", "eu.anthropic.claude-opus-5-5", "claude-opus-5-5", "eu.anthropic.claude-opus-5-5"),
        (
            "bedrock",
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-opus-5-5",
            "claude-opus-5-5",
            "eu.anthropic.claude-opus-5-5",
        ),
        # The region of a profile of the user's own is unknown, and so is the price.
        ("bedrock", "arn:aws:bedrock:eu-west-1:1:application-inference-profile/x1", "claude-opus-5-5", "x1"),
        ("foundry", "claude-opus-4-8-fast", "claude-opus-4-8", "claude-opus-4-8-fast"),
        ("foundry", "my-deployment", "claude-opus-4-8", "claude-opus-4-8"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("anthropic", "claude-sonnet-4-5", "", "claude-sonnet-4-5"),
        ("vertex", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("https://example.org", "a-fast", "b", "b"),
    ],
)
def test_the_name_that_decides_the_price(endpoint: str, asked: str, answered: str, priced: str):
    """It is the name of the answer, unless only the name of the request tells the region or the speed."""
    assert price_model(endpoint, asked, answered) == priced


def test_only_vertex_has_prices_of_regions_that_the_name_does_not_tell():
    """From Claude Sonnet 4.5 on."""
    assert is_regional("vertex", "claude-sonnet-4-5", "europe-west1")
    assert is_regional("vertex", "claude-opus-5-5", "us")
    for endpoint, model, region in (
        ("vertex", "claude-opus-5-5", "global"),
        ("vertex", "claude-opus-5-5", None),
        ("vertex", "claude-opus-4-1", "europe-west1"),
        ("bedrock", "eu.anthropic.claude-opus-5-5", "eu-west-1"),
        ("anthropic", "claude-opus-5-5", "us"),
    ):
        assert not is_regional(endpoint, model, region)
