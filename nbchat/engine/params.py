"""Params: the fields of a request from options, merged with the fields that ``--param`` gives.

A field that nbchat sends too is merged, or refused with the option to use instead. It is never replaced
without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import OptionError
from nbchat.core.secrets import mask
from nbchat.options import OPTIONS, Options

__all__ = ["Params", "merged_tools", "params_of"]

#: Fields that ``--param`` may not set, and the option to use instead.
_OWN_FIELDS = {"model": "-m", "max_tokens": "--max-tokens", "system": "-s", "stream": "--no-stream", "messages": "-c"}
#: Fields that are lists of texts. A field that is given again adds to the list.
_LISTS_OF_TEXT = frozenset({"stop_sequences", "betas"})
#: Fields that are objects. nbchat reads some of their keys.
_OBJECTS = frozenset({"thinking", "output_config", "tool_choice", "metadata", "cache_control"})
#: The options that send a field, by the path of the field.
_OPTION_OF = {
    "thinking": "thinking",
    "thinking.type": "thinking",
    "stop_sequences": "stop",
    "output_config": "effort",
    "output_config.effort": "effort",
    "output_config.format": "schema",
    "cache_control.ttl": "cache",
}
_FLAGS = {option.name: option.flags[-1] for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class Params:
    """The fields of a request from options.

    Attributes:
        fields: the fields by name, without ``tools``.
        tools: the definitions that ``--param tools`` adds to the tools of nbchat.
        thinks: True if ``--thinking`` is in force.
    """

    fields: dict[str, Any]
    tools: tuple[Mapping[str, Any], ...] = ()
    thinks: bool = False


def params_of(options: Options, *, is_read_again: bool = False) -> Params:
    """Return the fields of a request from ``--param`` and from the options that are fields themselves.

    Args:
        options: the options of the request.
        is_read_again: whether a later request may begin with the same prompt.

    Raises:
        OptionError: a param does not have the form KEY=JSON, or contradicts another option.
    """
    given = _given(options.param)
    fields: dict[str, Any] = {}
    if (is_read_again or given.get("tools")) and options.cache != "off":
        # Automatic caching of the prefix. Writing to the cache costs more than sending, so a prompt that no later
        # request reads has no mark: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
        fields["cache_control"] = {"type": "ephemeral", **({"ttl": "1h"} if options.cache == "1h" else {})}
    if options.effort:
        fields["output_config"] = {"effort": options.effort}
    if options.stop:
        fields["stop_sequences"] = list(options.stop)
    thinks = _thinks(given, options)
    for key, value in given.items():
        if value is None:
            # `--param cache_control=null` removes a field that nbchat sends.
            if key not in _OPTION_OF or not getattr(options, _OPTION_OF[key]) or _param_wins(key, None, options):
                fields.pop(key, None)
        elif key != "tools":
            fields[key] = _merged(key, fields[key], value, options) if key in fields else value
    config = given.get("output_config")
    if options.schema is not None and isinstance(config, dict) and "format" in config:
        raise OptionError(
            "--param output_config: --schema sets the field output_config.format",
            "Leave out --schema, or format in --param.",
        )
    return Params(fields, tuple(given.get("tools") or ()), thinks)


def _thinks(given: dict[str, Any], options: Options) -> bool:
    """Return True if ``--thinking`` is in force, and drop the field ``thinking`` if the option wins over it."""
    if not options.thinking or "thinking" not in given:
        return options.thinking
    field = given["thinking"]
    if field is not None and not (isinstance(field, dict) and field.get("type") == "disabled"):
        return True
    if _param_wins("thinking", field, options):
        return False
    del given["thinking"]
    return True


def merged_tools(
    own: Iterable[Mapping[str, Any]], served: Iterable[Mapping[str, Any]], added: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Return the tools of the notebook and of the service, followed by those of ``--param tools``.

    A definition of ``--param`` that has the name of a tool of the notebook completes the definition of that tool.

    Args:
        own: the tools that the notebook runs.
        served: the server tools that options ask for.
        added: the tools of ``--param``.

    Raises:
        OptionError: two tools have one name, which the API refuses, or two definitions of a tool contradict each other.

    >>> memory = {"type": "memory_20250818", "name": "memory"}
    >>> function = {"name": "memory", "description": "", "input_schema": {"type": "object"}}
    >>> merged_tools([function], [], [memory]) == (memory,)
    True
    """
    tools = {tool["name"]: tool for tool in own}
    served, others = tuple(served), []
    names = {tool.get("name"): "nbchat's own tools" for tool in served}
    for tool in added:
        name = tool.get("name")
        if name in names and name is not None:
            raise OptionError(
                f"--param tools: the name {name!r} is already one of {names[name]}",
                "Rename one of the two tools, or leave one out.",
            )
        names[name] = "the tools of --param"
        if name in tools:
            tools[name] = _completed(tools[name], tool)
        else:
            others.append(tool)
    return (*tools.values(), *served, *others)


def _completed(own: Mapping[str, Any], added: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of a tool of the notebook with what ``--param tools`` adds to it.

    Raises:
        OptionError: a field has two values.
    """
    if added.get("type", "custom") != "custom":
        # The API knows the arguments of its own types, for example of the memory tool. The notebook runs the calls.
        return added
    for field in own.keys() & added.keys():
        if own[field] != added[field]:
            raise OptionError(
                f"--param tools: the name {own['name']!r} is already one of nbchat's own tools, "
                f"and its {field} is another one",
                f"Leave out {field}, or give the tool another name.",
            )
    return {**own, **added}


def _given(params: Iterable[str]) -> dict[str, Any]:
    """Return the fields of ``--param``. A field that is given twice is merged, or refused.

    Raises:
        OptionError: a param does not have the form KEY=JSON, or its field has an option of its own.
    """
    given: dict[str, Any] = {}
    for param in params:
        key, value = _pair(param)
        if key in _OWN_FIELDS:
            raise OptionError(f"--param {key}: this field has an option of its own", f"Use {_OWN_FIELDS[key]}.")
        if key == "tools":
            value = _list_of_tools(value)
        elif key in _LISTS_OF_TEXT and value is not None:
            value = _list_of_text(key, value)
        elif key in _OBJECTS and not isinstance(value, dict | None):
            raise OptionError(f"--param {key}: an object is needed", f"""For example: --param '{key}={{"…": "…"}}'""")
        given[key] = _merged(key, given[key], value) if key in given else value
    return given


def _list_of_tools(value: Any) -> list[Mapping[str, Any]]:
    tools = value if isinstance(value, list) else [value]
    if not all(isinstance(tool, dict) for tool in tools):
        raise OptionError(
            "--param tools: a list of tool definitions is needed, as the API has them",
            """For example: --param 'tools=[{"type": "memory_20250818", "name": "memory"}]'. """
            "Functions of this notebook go into --tools.",
        )
    return tools


def _list_of_text(key: str, value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise OptionError(f"--param {key}: a list of texts is needed", f"""For example: --param '{key}=["…"]'""")
    return texts


def _merged(key: str, first: Any, second: Any, options: Options | None = None) -> Any:
    """Return two values of one field as one. Objects are merged key by key, and lists are joined.

    Args:
        key: the path of the field.
        first: the value of an option, or of an earlier param.
        second: the value of a param.
        options: the options, or None if both values are of params.

    Raises:
        OptionError: the values contradict each other.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        both = {**first, **second}
        for name in first.keys() & second.keys():
            both[name] = _merged(f"{key}.{name}", first[name], second[name], options)
        return both
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *(item for item in second if item not in first)]
    if first == second:
        return first
    if options is not None:
        return second if _param_wins(key, second, options) else first
    raise OptionError(
        f"--param {key}: {_shown(second, key)} contradicts {_shown(first, key)}, which --param gives too",
        "Give the field once.",
    )


def _param_wins(key: str, value: Any, options: Options) -> bool:
    """Return True if a param wins over the option that sends the same field, and False if the option wins.

    The one that was given for this request wins over one that is a setting, as everywhere.

    Raises:
        OptionError: both were given, or both are settings.
    """
    name = _OPTION_OF.get(key)
    # A field that nbchat sends without an option is only a default.
    if name is None or ("param" in options.given) > (name in options.given):
        return True
    if ("param" in options.given) < (name in options.given):
        return False
    raise OptionError(
        f"--param {key}={_shown(value, key)} contradicts {_FLAGS[name]}", f"Leave out {_FLAGS[name]}, or this --param."
    )


def _shown(value: Any, key: str) -> str:
    """Return a value for a message. A tool or a server may have a token in it."""
    return json.dumps(mask(value, key), ensure_ascii=False)


def _pair(given: str) -> tuple[str, Any]:
    key, equals, text = given.partition("=")
    if equals and "." in key and key.replace(".", "").isidentifier():
        outer, _, inner = key.partition(".")
        raise OptionError(
            f"--param {key}={mask(text, key)}: a field inside another one is given as an object",
            f"""For example: --param '{outer}={{"{inner.replace(".", '": {"')}": …{"}" * inner.count(".")}}}'""",
        )
    if not equals or not key.isidentifier():
        raise OptionError(f"--param {mask(given)}: KEY=JSON is needed", "For example: --param temperature=0")
    try:
        return key, json.loads(text)
    except ValueError as error:
        raise OptionError(
            f"--param {key}={mask(text, key)}: the text after = is not valid JSON ({error})",
            f"A string needs its quotation marks: --param '{key}=\"{mask(text, key)}\"'",
        ) from None
