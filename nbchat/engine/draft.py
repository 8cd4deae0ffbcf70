"""A draft: the options, the prompt and its attachments, before an endpoint is known. Nothing is sent here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.context.values import carry
from nbchat.core.errors import InputError, OptionError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.template import fill
from nbchat.engine.capabilities import thinking_of
from nbchat.engine.structured import shaped
from nbchat.models import StructuredMethod
from nbchat.options import OPTIONS, Options

__all__ = ["Draft", "compose", "refuse_cell_options", "system_of"]

#: Server tools by option: https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools
SERVER_TOOLS: dict[str, dict[str, Any]] = {
    "web_search": {"type": "web_search_20250305", "name": "web_search"},
    # A search cites its sources always, a fetched page only when asked to.
    "web_fetch": {"type": "web_fetch_20250910", "name": "web_fetch", "citations": {"enabled": True}},
    "code_execution": {"type": "code_execution_20250825", "name": "code_execution"},
}
#: Fields that ``--param`` may not set, and the option to use instead.
_OWN_FIELDS = {"model": "-m", "max_tokens": "--max-tokens", "system": "-s", "stream": "--no-stream", "messages": "-c"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before its endpoint is known.

    Args:
        prompt: the user's message.
        history: the messages before it.
        system: the system prompt.
        tools: the definitions of the tools.
        params: further fields of the request.
        max_tokens: the longest answer, in tokens.
        stream: whether the answer is streamed.
        notes: lines for the user on what was cut.
        thinks: whether the model should think. The form depends on the model.
        schema: the type of the answer, or None.
        way: how the endpoint is asked for that type, where it differs from the endpoint's own way.
    """

    prompt: Message
    history: tuple[Message, ...] = ()
    system: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 8192
    stream: bool = True
    notes: tuple[str, ...] = ()
    thinks: bool = False
    schema: Any = None
    way: StructuredMethod | None = None

    def request(
        self, model: str, defaults: Mapping[str, Any] | None = None, way: StructuredMethod = "format"
    ) -> Request:
        """Return the request to a model.

        Args:
            model: the model's id.
            defaults: fields that the endpoint adds where the user gives none.
            way: how the endpoint is asked for a typed answer.

        Raises:
            OptionError: ``max_tokens`` has no room for the thinking of this model.
            SchemaError: the type of the answer has no JSON Schema that the API takes.
        """
        adds_thinking = self.thinks and "thinking" not in self.params
        thinking = {"thinking": thinking_of(model, self.max_tokens)} if adds_thinking else {}
        request = Request(
            model=model,
            messages=(*self.history, self.prompt),
            max_tokens=self.max_tokens,
            system=self.system,
            tools=self.tools,
            params={**(defaults or {}), **thinking, **self.params},
            stream=self.stream,
        )
        return _with_definitions(request if self.schema is None else shaped(request, self.schema, self.way or way))


def _with_definitions(request: Request) -> Request:
    """Return the request with a definition of each tool that its history calls, if it offers no tools.

    The API accepts calls and results only in a request that defines tools
    (https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use). The model may
    call none of them.
    """
    if request.tools:
        return request
    calls = (block for message in request.messages for block in message.content if block.type == "tool_use")
    names = dict.fromkeys(block.to_dict()["name"] for block in calls)
    if not names:
        return request
    tools = tuple({"name": name, "input_schema": {"type": "object"}} for name in names)
    return replace(request, tools=tools, params={**request.params, "tool_choice": {"type": "none"}})


def compose(
    prompt: str | Sequence[Any],
    options: Options,
    *,
    namespace: Mapping[str, Any] | None = None,
    carried: Sequence[Carried] = (),
    history: tuple[Message, ...] = (),
    tools: Sequence[Mapping[str, Any]] = (),
    schema: Any = None,
) -> Draft:
    """Return the draft of a request.

    Args:
        prompt: a text, or a sequence of texts and values.
        options: the options of the request.
        namespace: the names that ``{{ … }}`` is filled from. Without it a text stays as it is.
        carried: content that goes before the prompt, because a question works best below long material
            (https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/long-context-tips).
        history: the messages before the prompt.
        tools: definitions of tools.
        schema: the type of the answer, or None.

    Raises:
        InputError: the prompt is empty, or a part of it cannot be sent.
    """
    parts: list[Any] = []
    for part in [prompt] if isinstance(prompt, str) else prompt:
        parts += fill(part, namespace) if isinstance(part, str) and namespace is not None else [part]
    asked = carry([*(piece for along in carried if along.content for piece in (along, "\n\n")), *parts])
    if not any(block["type"] != "text" or block["text"].strip() for block in asked.content):
        raise InputError("the prompt is empty, so nothing was sent", "Write the prompt in the cell, below %%claude.")
    notes = tuple(dict.fromkeys(note for along in (*carried, asked) for note in along.notes))
    return Draft(
        prompt=Message.of("user", asked.content),
        history=history,
        system=system_of(options.system, namespace),
        tools=(*tools, *(tool for name, tool in SERVER_TOOLS.items() if getattr(options, name))),
        params=_params(options),
        thinks=options.thinking,
        max_tokens=options.max_tokens,
        stream=options.stream,
        notes=notes,
        schema=schema,
    )


#: Options that need the notebook around the prompt, and so cannot be a setting either.
_CELL_OPTIONS = tuple(option.name for option in OPTIONS if not option.setting and option.name != "schema")


def refuse_cell_options(options: Options) -> None:
    """Refuse the options that only a cell can obey. Python code would have them ignored.

    Raises:
        OptionError: the option, and what to do instead.
    """
    for name in _CELL_OPTIONS:
        if name in options.given and getattr(options, name):
            hint = f"Leave out {name}, or ask in a cell."
            if name == "attach":
                hint = 'Put files into the prompt as values: ask(["Sum it up:", Path("data.csv")]).'
            raise OptionError(f"{name}: only a %%claude cell has this option", hint)


def system_of(given: str | None, namespace: Mapping[str, Any] | None = None) -> str | None:
    """Return the system prompt that ``-s`` names: a variable, a file, or the text itself.

    Raises:
        OptionError: the variable or the file does not hold text.
    """
    if not given:
        return None
    value = (namespace or {}).get(given) if given.isidentifier() else None
    if isinstance(value, str):
        return value
    if value is not None:
        raise OptionError(
            f"-s {given}: the variable {given} holds {type(value).__name__}, not text",
            f"Write -s {{{{ str({given}) }}}}.",
        )
    if "\n" not in given and len(given) < 250 and (path := Path(given).expanduser()).is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"-s {given}: the file cannot be read as text ({error})", "Give a text file.") from None
    return carry(fill(given, namespace)).text if namespace is not None else given


def _params(options: Options) -> dict[str, Any]:
    # Automatic caching of the prefix: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    params: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
    if options.effort:
        params["output_config"] = {"effort": options.effort}
    if options.stop:
        params["stop_sequences"] = list(options.stop)
    for given in options.param:
        key, value = _pair(given)
        if key in _OWN_FIELDS:
            raise OptionError(f"--param {key}: this field has an option of its own", f"Use {_OWN_FIELDS[key]}.")
        if value is None:
            params.pop(key, None)  # `--param cache_control=null` removes a field that nbchat sets
        elif isinstance(value, dict) and isinstance(params.get(key), dict) and key == "output_config":
            params[key] = params[key] | value
        else:
            params[key] = value
    return params


def _pair(given: str) -> tuple[str, Any]:
    key, equals, text = given.partition("=")
    if not equals or not key.isidentifier():
        raise OptionError(f"--param {given}: KEY=JSON is needed", "For example: --param temperature=0")
    try:
        return key, json.loads(text)
    except ValueError as error:
        raise OptionError(
            f"--param {given}: the text after = is not valid JSON ({error})",
            f"A string needs its quotation marks: --param '{key}=\"{text}\"'",
        ) from None
