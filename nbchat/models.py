"""Models and platforms: everything that nbchat derives from the name of a model or of an endpoint.

A new model or platform is a change of this file alone. What the Models API reports about a model goes
before what is derived from its name here (:mod:`nbchat.engine.capabilities`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "DEFAULT_MODEL",
    "FREE",
    "KNOWN_MODELS",
    "LOCAL",
    "PLATFORMS",
    "SERVER_TOOL_TYPES",
    "WITHOUT_BATCHES",
    "WITHOUT_FILES",
    "Model",
    "Platform",
    "StructuredMethod",
    "context_window",
    "has_server_tool",
    "is_fast",
    "is_regional",
    "price_model",
    "structured_method",
    "takes_newest_server_tools",
    "telemetry_name",
]

DEFAULT_MODEL = "claude-sonnet-5-5"

#: Models that completion offers before the SDK is loaded, whose own list is newer.
KNOWN_MODELS = (
    *(DEFAULT_MODEL, "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-2", "claude-mythos-5-2"),
    *("claude-fable-5-1", "claude-mythos-5-1", "claude-sonnet-5", "claude-opus-5", "claude-fable-5", "claude-mythos-5"),
    *("claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5"),
)

#: How an endpoint is asked for an answer of a type. ``format``: structured outputs of the API. ``tool``: a
#: forced tool whose input is the answer. ``words``: an instruction below the prompt.
#: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
StructuredMethod: TypeAlias = Literal["format", "tool", "words"]


# Models ----------------------------------------------------------------------------------------

# One name has many spellings. All of these are claude-opus-4-1 or an older sibling:
#   claude-opus-4-1, claude-opus-4-1-20250805        the Anthropic API, without and with a date
#   us.anthropic.claude-opus-4-1-20250805-v1:0       Bedrock: an inference profile, a date, a revision
#   claude-opus-4-1@20250805                         Vertex
#   anthropic/claude-opus-4.1                        gateways such as OpenRouter
#   claude-3-5-haiku-latest, claude-3-opus@20240229  up to version 3, and on Vertex's price list version 4 too,
#                                                    the family comes after the version
# "(?!\d)" keeps the first digits of a date from being read as a version: claude-opus-4-20250514 is version 4.0.
_VERSIONED = re.compile(
    r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)(?:-(?P<after>opus|sonnet|haiku))?"
)
_UNVERSIONED = re.compile(r"claude-(?P<family>[a-z]+)(?![a-z0-9])")  # claude-mythos-preview

#: The last version whose thinking needs a budget in tokens. Later models decide how much to think:
#: https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
_LAST_WITH_BUDGET = (4, 5)
#: The first version with structured outputs. Of the older ones only Opus 4.1 has them.
_FIRST_WITH_FORMAT = (4, 5)
#: The first version whose code can call web search and web fetch in a container of the service, which the
#: newest server tools need: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool
_FIRST_WITH_FILTERING = (4, 6)
#: The first version for which Google Cloud charges more in a region than on the global endpoint
#: (https://platform.claude.com/docs/en/about-claude/pricing, "Third-party platform pricing").
_FIRST_WITH_REGIONS = (4, 5)


class Model(NamedTuple):
    """The facts that the name of a model tells.

    ``family`` is for example ``opus``, or "" if the name is not one of Claude. ``version`` is the pair
    of its numbers, or None if the name has none. A model without a version is treated as a new one,
    because an unknown name is more often newer than this file than older.

    >>> Model.of("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    Model(family='sonnet', version=(4, 5))
    >>> Model.of("llama-4-scout").version is None
    True
    """

    family: str
    version: tuple[int, int] | None

    @classmethod
    def of(cls, name: str) -> Model:
        """Return the facts that ``name`` tells, in whichever spelling of a platform or gateway."""
        if found := _VERSIONED.search(name):
            family = found["family"] or found["after"] or ""
            return cls(family, (int(found["major"]), int(found["minor"] or 0)))
        found = _UNVERSIONED.search(name)
        return cls(found["family"] if found else "", None)

    @property
    def thinking(self) -> Literal["adaptive", "enabled"]:
        """Return the ``type`` of thinking that the model takes: ``enabled`` is the one with a budget."""
        return "enabled" if self.version is not None and self.version <= _LAST_WITH_BUDGET else "adaptive"

    @property
    def has_structured_outputs(self) -> bool:
        """Return True unless the model is known to be too old for structured outputs."""
        return self.version is None or self.version >= _FIRST_WITH_FORMAT or self == ("opus", (4, 1))

    @property
    def filters_web_results(self) -> bool:
        """Return True unless the model is known to be too old for the newest server tools."""
        return self.version is None or self.version >= _FIRST_WITH_FILTERING

    @property
    def least_cached_tokens(self) -> int:
        """Return how long a prompt must be for the service to keep it in its cache, in tokens.

        https://platform.claude.com/docs/en/build-with-claude/prompt-caching#cache-limitations
        """
        # A mark on a shorter prompt has no effect, so a new model gets the smaller number.
        if self.family == "haiku" and self.version is not None and self.version < (4, 5):
            return 2_048
        return 4_096 if self.family in ("haiku", "opus") else 1_024

    @property
    def has_regional_prices(self) -> bool:
        """Return True unless Google Cloud charges the same for the model in every region."""
        return self.version is None or self.version >= _FIRST_WITH_REGIONS


# Platforms -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Platform:
    """A service that has a client of its own in the anthropic SDK.

    Attributes:
        client: the name of the client's class in the anthropic package.
        price_provider: the name of the provider in genai-prices.
        telemetry_name: the name of the provider in the GenAI conventions of OpenTelemetry.
        library: a module that the client imports only when it sends, or None. The extra of the
            anthropic package that installs the module has the name of the platform.
        has_structured_outputs: True if the platform is known to offer them.
        place_in_name: True if the model or the region names the place of inference, so that the
            ``inference_geo`` of the usage does not change the price.
        server_tools: the tools that the platform can run itself.
        has_newest_server_tools: True if every deployment of the platform takes the newest versions of them.
        region_variable: the variable of the environment that names the region, where the price depends on the
            region and the model's name does not tell it; else "".
        price_in_id: True if the id that a request names tells the price, and the name in the answer does not.
        fast_suffix: the end of the names of models that run in fast mode; "" where a name does not tell.
        setup: what to do if credentials or settings are missing; "" for the Anthropic API, which has
            several ways.
    """

    client: str
    price_provider: str
    telemetry_name: str
    library: str | None = None
    has_structured_outputs: bool = False
    place_in_name: bool = False
    server_tools: frozenset[str] = frozenset({"web_search", "web_fetch", "code_execution"})
    has_newest_server_tools: bool = False
    region_variable: str = ""
    price_in_id: bool = False
    fast_suffix: str = ""
    setup: str = ""


PLATFORMS: Final[Mapping[str, Platform]] = MappingProxyType(
    {
        "anthropic": Platform(
            "Anthropic", "anthropic", "anthropic", has_structured_outputs=True, has_newest_server_tools=True
        ),
        "bedrock": Platform(
            "AnthropicBedrock",
            "aws",
            "aws.bedrock",
            library="botocore",
            has_structured_outputs=True,
            place_in_name=True,
            server_tools=frozenset(),
            price_in_id=True,
            setup="Set AWS_REGION and the credentials of AWS (variables, a profile or a role).",
        ),
        "vertex": Platform(
            "AnthropicVertex",
            "google",
            "gcp.vertex_ai",
            library="google.auth",
            place_in_name=True,
            server_tools=frozenset({"web_search"}),
            region_variable="CLOUD_ML_REGION",
            setup="Set CLOUD_ML_REGION and ANTHROPIC_VERTEX_PROJECT_ID, and log in to Google Cloud.",
        ),
        "foundry": Platform(
            "AnthropicFoundry",
            "azure",
            "azure.ai.inference",
            has_structured_outputs=True,
            # Deployments hosted on Azure take only the basic versions, and no name tells them apart:
            # https://platform.claude.com/docs/en/build-with-claude/claude-in-microsoft-foundry
            fast_suffix="-fast",
            setup="Set ANTHROPIC_FOUNDRY_RESOURCE and ANTHROPIC_FOUNDRY_API_KEY.",
        ),
    }
)

#: The endpoint of the embedded model, which runs on this machine.
LOCAL = "local"
#: Endpoints that cost nothing: the embedded model, and answers that were written by hand.
FREE = frozenset({LOCAL, "scripted"})

#: Endpoints that are known to have no Files API: https://platform.claude.com/docs/en/build-with-claude/files
WITHOUT_FILES = frozenset({"bedrock", "vertex", LOCAL})
#: The endpoints without the Message Batches API. Each cloud has batches of its own.
WITHOUT_BATCHES = frozenset({"bedrock", "vertex", "foundry", LOCAL})


def structured_method(endpoint: str, model: str) -> StructuredMethod:
    """Return how ``model`` is asked for an answer of a type at ``endpoint``.

    An endpoint that is not known to have structured outputs gets a forced tool, which every server of
    the Messages API understands.
    """
    platform = PLATFORMS.get(endpoint)
    if platform is None or not platform.has_structured_outputs:
        return "tool"
    return "format" if Model.of(model).has_structured_outputs else "tool"


#: The types of the server tools by name: the newest version, and the basic one that every model and endpoint
#: with the tool takes. None of them needs a beta header.
#: https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools
SERVER_TOOL_TYPES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "web_search": ("web_search_20260318", "web_search_20250305"),
        "web_fetch": ("web_fetch_20260318", "web_fetch_20250910"),
        "code_execution": ("code_execution_20260521", "code_execution_20250825"),
    }
)


def takes_newest_server_tools(endpoint: str, model: str) -> bool:
    """Return True if ``model`` takes the newest versions of the server tools at ``endpoint``.

    A server that imitates the Messages API rarely knows them, so it gets the basic versions.
    """
    platform = PLATFORMS.get(endpoint)
    return platform is not None and platform.has_newest_server_tools and Model.of(model).filters_web_results


def has_server_tool(endpoint: str, tool: str) -> bool:
    """Return True unless ``endpoint`` is known not to run the server tool of that name."""
    if endpoint == LOCAL:
        return False
    return endpoint not in PLATFORMS or tool in PLATFORMS[endpoint].server_tools


def price_model(endpoint: str, asked: str, answered: str) -> str:
    """Return the name of the model that decides the price of a request.

    Args:
        endpoint: the name of the endpoint.
        asked: the model that the request names.
        answered: the model that the answer names, or "".

    On Bedrock only the id in the request has the region, and on Foundry only the name in the request has the
    speed:

    >>> price_model("bedrock", "global.anthropic.claude-opus-5-5", "claude-opus-5-5")
    'global.anthropic.claude-opus-5-5'
    >>> price_model("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929")
    'claude-sonnet-4-5-20250929'
    """
    platform = PLATFORMS.get(endpoint)
    if platform is not None and platform.price_in_id:
        return asked.rpartition("/")[2]  # arn:aws:bedrock:us-east-1:…:inference-profile/us.anthropic.claude-…
    return asked if is_fast(endpoint, asked) else answered or asked


def is_fast(endpoint: str, model: str) -> bool:
    """Return True if the name of the model says that the model runs in fast mode at the endpoint.

    https://platform.claude.com/docs/en/build-with-claude/fast-mode
    """
    platform = PLATFORMS.get(endpoint)
    return platform is not None and platform.fast_suffix != "" and model.endswith(platform.fast_suffix)


def is_regional(endpoint: str, model: str, region: str | None) -> bool:
    """Return True if a request costs the price of a region, which the model's name does not tell.

    ``us`` and ``eu`` are regions too: they are the multi-region endpoints of Google Cloud.
    """
    platform = PLATFORMS.get(endpoint)
    if platform is None or not platform.region_variable or region in (None, "", "global"):
        return False
    return Model.of(model).has_regional_prices


def telemetry_name(endpoint: str) -> str:
    """Return the provider name of the GenAI conventions; an endpoint of the user's own keeps its name."""
    if endpoint == LOCAL:
        return "llama.cpp"
    return PLATFORMS[endpoint].telemetry_name if endpoint in PLATFORMS else endpoint


def context_window(model: str, endpoint: str) -> int | None:
    """Return the context window of a model in tokens, as genai-prices lists it, or None. Never raise."""
    try:
        import genai_prices  # takes 0.3 s to load, so it is not imported before it is needed

        probe = genai_prices.Usage(input_tokens=1)
        if endpoint in PLATFORMS:
            provider = PLATFORMS[endpoint].price_provider
            listed = genai_prices.calc_price(probe, model, provider_id=provider)
        else:
            listed = genai_prices.calc_price(probe, model, provider_api_url=endpoint)
        window = listed.model.context_window
    except Exception:  # a model or a provider that is not listed
        return None
    return window if isinstance(window, int) and window > 0 else None
