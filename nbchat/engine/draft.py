"""A draft: the options, the prompt and its attachments, before an endpoint is known. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.context.uploads import Form
from nbchat.context.values import carry
from nbchat.core.conversation import Turn
from nbchat.core.errors import InputError, OptionError
from nbchat.core.fields import LONE_HALF, has_lone_half
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.template import fill
from nbchat.core.uploads import Upload, addresses_in
from nbchat.engine.capabilities import thinking_of
from nbchat.engine.citations import refuse_uncitable, with_citations
from nbchat.engine.container import has_container, without_container_files
from nbchat.engine.params import merged_tools, params_of
from nbchat.engine.server_tools import definitions, server_tools
from nbchat.engine.structured import shaped
from nbchat.engine.system_prompt import system_of
from nbchat.engine.uploads import gather
from nbchat.models import StructuredMethod
from nbchat.options import OPTIONS, Options

__all__ = [
    "Draft",
    "before_prompt",
    "compose",
    "file_form",
    "refuse_cell_options",
    "refuse_empty",
    "refuse_row_options",
]


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before its endpoint is known.

    Args:
        prompt: the user's message.
        history: the turns before it. What may be sent of them depends on the model and the endpoint.
        system: the system prompt.
        tools: the definitions of the tools.
        params: further fields of the request.
        added_tools: the definitions of ``--param tools``.
        server_tools: the settings of the server tools by name. The version depends on the model and the endpoint.
        basic_tools: whether the server tools must have their basic versions.
        max_tokens: the longest answer, in tokens.
        stream: whether the answer is streamed.
        notes: lines for the user on what was cut.
        thinks: whether the model should think. The form depends on the model.
        schema: the type of the answer, or None.
        way: how the endpoint is asked for that type, where it differs from the endpoint's own way.
        cite: whether the model should cite documents.
        uploads: the files that the messages refer to, by their addresses.
        with_values_in: returns the same draft with each value of the prompt in at most so many tokens. The
            expressions are not evaluated again. None if the prompt has no value that can be cut.
    """

    prompt: Message
    history: tuple[Turn, ...] = ()
    system: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    added_tools: tuple[Mapping[str, Any], ...] = ()
    server_tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    basic_tools: bool = False
    max_tokens: int = 8192
    stream: bool = True
    notes: tuple[str, ...] = ()
    thinks: bool = False
    schema: Any = None
    way: StructuredMethod | None = None
    cite: bool = False
    uploads: Mapping[str, Upload] = field(default_factory=dict)
    with_values_in: Callable[[int], Draft] | None = field(default=None, compare=False, repr=False)

    def noted(self, note: str) -> Draft:
        """Return the draft with one more line for the user, or the draft itself if the line is empty."""
        return replace(self, notes=(*self.notes, note)) if note else self

    def request(
        self,
        model: str,
        defaults: Mapping[str, Any] | None = None,
        way: StructuredMethod = "format",
        *,
        newest_tools: bool = False,
        endpoint: str = "",
    ) -> Request:
        """Return the request to a model.

        Args:
            model: the model's id.
            defaults: fields that the endpoint adds where the user gives none.
            way: how the endpoint is asked for a typed answer.
            newest_tools: whether the endpoint takes the newest versions of the server tools for this model.
            endpoint: the name of the endpoint.

        Raises:
            OptionError: ``max_tokens`` has no room for the thinking of this model, or two tools have one name.
            SchemaError: the type of the answer has no JSON Schema that the API takes.
        """
        way = self.way or way
        # The API refuses citations together with structured outputs:
        # https://platform.claude.com/docs/en/build-with-claude/citations
        cites = self.schema is None or way != "format"
        served = definitions(self.server_tools, newest=newest_tools and not self.basic_tools, cites=cites)
        tools = merged_tools(self.tools, served, self.added_tools)
        if "tool_choice" in self.params and not tools:
            raise OptionError(
                "--param tool_choice: the request offers no tools", "Add --tools, or leave out this --param."
            )
        history = (part for turn in self.history for part in turn.sendable(model, endpoint))
        messages = with_citations((*history, self.prompt), self.cite, typed=self.schema is not None)
        if not has_container(tools):
            messages = without_container_files(messages)
        request = Request(
            model=model,
            messages=messages,
            max_tokens=self.max_tokens,
            system=self.system,
            tools=tools,
            params={**(defaults or {}), **self.params, **self._thinking(model)},
            stream=self.stream,
            file_tokens=sum(self.uploads[address].tokens for address in addresses_in(messages)),
        )
        return _with_definitions(request if self.schema is None else shaped(request, self.schema, way))

    def _thinking(self, model: str) -> dict[str, Any]:
        """Return the field ``thinking`` of ``--thinking``, if it is in force, merged with that of ``--param``."""
        given = self.params.get("thinking") or {}
        if not self.thinks or "type" in given:
            return {}
        return {"thinking": {**thinking_of(model, self.max_tokens), **given}}


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
    history: tuple[Turn, ...] = (),
    uploads: Mapping[str, Upload] = MappingProxyType({}),
    tools: Sequence[Mapping[str, Any]] = (),
    schema: Any = None,
    settled: Collection[str] = (),
    is_continued: bool = False,
) -> Draft:
    """Return the draft of a request.

    Args:
        prompt: a text, or a sequence of texts and values.
        options: the options of the request.
        namespace: the names that ``{{ … }}`` is filled from. Without it a text stays as it is.
        carried: content that goes before the prompt, because a question works best below long material
            (https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/long-context-tips).
        history: the turns before the prompt.
        uploads: the files that were uploaded before, by their addresses.
        tools: definitions of tools.
        schema: the type of the answer, or None.
        settled: the names of options that hold for a whole session, and so need not have an effect on each request.
        is_continued: whether a later prompt may follow in the same conversation.

    Raises:
        InputError: the prompt is empty, or a part of it cannot be sent.
        OptionError: an option has a value that the API refuses, or contradicts another one.
    """
    parts: list[Any] = []
    for part in [prompt] if isinstance(prompt, str) else prompt:
        parts += fill(part, namespace) if isinstance(part, str) and namespace is not None else [part]
    pieces = [*before_prompt(carried), *parts]
    asked = carry(pieces, form=file_form(options))
    refuse_empty(asked)
    run_by_service = server_tools(options)
    system = system_of(options.system, namespace)
    params = params_of(options, is_read_again=is_continued or bool(tools or run_by_service))
    message = _message_of(asked, options, schema)
    earlier = tuple(part for turn in history for part in turn.sendable())
    given = options.given.difference(settled)
    if "upload" in given and options.upload and not asked.uploads:
        raise OptionError(
            "--upload: the prompt has no file to upload",
            "Attach a PDF, an image or a text with --attach; other files need --code-execution, too.",
        )
    if "cite" in given and options.cite:
        refuse_uncitable((*earlier, message), typed=schema is not None, params=params.fields)
    is_uncached = "cache" in given and options.cache != "off" and "cache_control" not in params.fields

    def notes_on(asked: Carried) -> tuple[str, ...]:
        notes = list(dict.fromkeys(note for along in (*carried, asked) for note in along.notes))
        sent = {"the prompt": asked.content, "the system prompt": system, "a tool": (tools, params.tools)}
        if broken := [name for name, part in {**sent, "an option": params.fields}.items() if has_lone_half(part)]:
            notes.append(f"{' and '.join(broken)} had {LONE_HALF}")
        if is_uncached:
            notes.append(f"--cache {options.cache}: the prompt is not cached, because no later request can read it")
        return tuple(notes)

    def with_values_in(tokens: int) -> Draft:
        shorter = carry(pieces, budget=tokens, form=file_form(options))
        return replace(draft, prompt=_message_of(shorter, options, schema), notes=notes_on(shorter))

    draft = Draft(
        prompt=message,
        history=history,
        system=system,
        tools=tuple(tools),
        params=params.fields,
        added_tools=params.tools,
        server_tools=run_by_service,
        thinks=params.thinks,
        max_tokens=options.max_tokens,
        stream=options.stream,
        notes=notes_on(asked),
        schema=schema,
        cite=options.cite,
        uploads=gather((*earlier, message), asked.uploads, uploads),
        with_values_in=None if all(isinstance(piece, str | Carried | Path) for piece in pieces) else with_values_in,
    )
    return draft


def _message_of(asked: Carried, options: Options, schema: Any) -> Message:
    (message,) = with_citations((Message.of("user", asked.content),), options.cite, typed=schema is not None)
    return message


def before_prompt(carried: Sequence[Carried]) -> list[Carried | str]:
    """Return what goes before the prompt: the carried content, with a blank line after each part."""
    return [piece for along in carried if along.content for piece in (along, "\n\n")]


def refuse_empty(asked: Carried) -> None:
    """Raise InputError if a prompt has nothing but white space."""
    if not any(block["type"] != "text" or block["text"].strip() for block in asked.content):
        raise InputError("the prompt is empty, so nothing was sent", "Write the prompt in the cell, below %%claude.")


def file_form(options: Options) -> Form:
    """Return the form in which files are sent."""
    return Form(cite=options.cite and options.schema is None, upload=options.upload, code=options.code_execution)


#: Options that need the notebook around the prompt, and so cannot be a setting either.
_CELL_OPTIONS = tuple(
    option.name for option in OPTIONS if not option.setting and option.name not in ("schema", "each", "rows", "via")
)
#: Options of a run over rows.
_ROW_OPTIONS = ("rows", "concurrency", "rpm", "tpm", "via")


def refuse_row_options(options: Options) -> None:
    """Refuse the options that only a run over rows can obey.

    Raises:
        OptionError: the option, and what to do instead.
    """
    for name in _ROW_OPTIONS:
        if name in options.given and not options.each:
            raise OptionError(
                f"{name}: only a run over rows has this option", "Add --each ROWS, or use nbchat.ask_each in Python."
            )


def refuse_cell_options(options: Options, *, except_for: Collection[str] = ()) -> None:
    """Refuse the options that only a cell can obey. Python code would have them ignored.

    Args:
        options: the options.
        except_for: the names of those that are obeyed.

    Raises:
        OptionError: the option, and what to do instead.
    """
    if "each" in options.given and options.each:
        raise OptionError("each: only a %%claude cell has this option", "Use nbchat.ask_each(rows, template).")
    for name in _CELL_OPTIONS:
        if name in options.given and getattr(options, name) and name not in except_for:
            hint = f"Leave out {name}, or ask in a cell."
            if name == "attach":
                hint = 'Put files into the prompt as values: ask(["Sum it up:", Path("data.csv")]).'
            raise OptionError(f"{name}: only a %%claude cell has this option", hint)
