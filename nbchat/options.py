"""The options of a cell: the typed table that parsing, help, completion, settings and defaults come from.

To add an option, add a field to :class:`Options`. Its annotation is the type that code reads and that the
line is checked against; :func:`option` holds its flags, its help and its default. The rest of nbchat reads
the option as an attribute, such as ``options.max_tokens``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import OptionError, nearest
from nbchat.models import DEFAULT_MODEL
from nbchat.option import Option, check_choice, check_variable, option, row_of

__all__ = ["APPROVALS", "OPTIONS", "SEE_HELP", "Option", "Options", "check_choice", "check_variable"]

#: The answers of `--approve`: ask before each call, always allow it, never allow it.
APPROVALS = ("ask", "always", "never")
SEE_HELP = "%%claude? lists the options."


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Options:
    """The options of one request. An option given for the request wins over a setting, and a setting over the default.

    ``given`` holds the names of the options that were given for this request.
    """

    # Who answers, and in which conversation
    model: str = option(
        "-m", "--model", help="the model that answers", metavar="MODEL", default=DEFAULT_MODEL, completes="models"
    )
    chat: str = option(
        "-c", "--chat", help="the conversation this cell belongs to", metavar="NAME", default="main", completes="chats"
    )
    once: bool = option("--once", help="send no history, and leave the turn out of the conversation", default=False)
    go_on: bool = option(
        "--continue",
        help="go on where the last answer of the conversation was cut; the prompt is an optional remark",
        default=False,
        setting=False,
    )
    system: str | None = option(
        "-s",
        "--system",
        help="the system prompt: text, a file or a variable",
        metavar="TEXT",
        default=None,
        completes="system",
    )
    endpoint: str | None = option(
        "--endpoint",
        metavar="NAME",
        default=None,
        completes="endpoints",
        help="who answers: anthropic, bedrock, vertex, foundry, local, a name from Nbchat.endpoints, or a base URL",
    )
    # The size and the form of the answer
    max_tokens: int = option(
        "--max-tokens",
        help="the maximum length of the answer, in tokens",
        completes="tokens",
        metavar="N",
        default=8192,
    )
    thinking: bool = option("--thinking", help="let the model think, and show its thinking", default=False)
    effort: str | None = option(
        "--effort",
        help="how hard the model tries",
        metavar="LEVEL",
        default=None,
        choices=("low", "medium", "high", "xhigh", "max"),
    )
    stop: tuple[str, ...] = option(
        "--stop", help="end the answer at this text; can be repeated", metavar="TEXT", default=()
    )
    param: tuple[str, ...] = option(
        "--param",
        help="one more field of the request, as KEY=JSON; can be repeated",
        completes="params",
        metavar="KEY=JSON",
        default=(),
    )
    cache: str = option(
        "--cache",
        metavar="TIME",
        default="5m",
        choices=("5m", "1h", "off"),
        help="how long the service keeps the prompt for later requests of the conversation, which then cost less",
    )
    stream: bool = option("--no-stream", help="receive the answer in one piece", default=True, value=False)
    # What the request includes
    attach: tuple[str, ...] = option(
        "--attach",
        metavar="PATH…",
        default=(),
        completes="files",
        setting=False,
        help="files to include: text, code, notebooks, CSV, PDF, images; globs work too",
    )
    cells: str | None = option(
        "--cells",
        metavar="SPEC",
        default=None,
        completes="cells",
        setting=False,
        help="cells to include with their outputs: 3-5, 3,7 or above",
    )
    upload: bool = option(
        "--upload",
        default=False,
        help="send attached files through the Files API, once for a conversation; "
        "with --code-execution, data files go into the container",
    )
    cite: bool = option("--cite", default=False, help="let the model cite the attached PDFs, texts and cells")
    web_search: bool = option("--web-search", help="let the model search the web", default=False)
    web_fetch: bool = option("--web-fetch", help="let the model fetch web pages", default=False)
    max_uses: int | None = option(
        "--max-uses",
        completes="times",
        metavar="N",
        default=None,
        help="how often web search and web fetch may each be used in one request",
    )
    allowed_domains: tuple[str, ...] = option(
        "--allowed-domains",
        metavar="DOMAINS",
        default=(),
        help="the only domains that web search and web fetch may use: example.org,example.com/blog",
    )
    blocked_domains: tuple[str, ...] = option(
        "--blocked-domains",
        metavar="DOMAINS",
        default=(),
        help="domains that web search and web fetch may not use",
    )
    code_execution: bool = option(
        "--code-execution", default=False, help="let the model run code in a container of the service"
    )
    trim: bool = option(
        "--trim", default=False, help="drop the oldest turns if the request is larger than the context window"
    )
    # What the model may do
    tools: tuple[object, ...] = option(
        "-t",
        "--tools",
        metavar="NAMES",
        default=(),
        completes="tools",
        help="functions the model may call: names and methods, separated by commas; "
        "tools of MCP servers as SERVER or SERVER.TOOL",
    )
    run: bool = option(
        "--run", help="let the model run Python code in this notebook; asks before each run", default=False
    )
    approve: str | None = option(
        "--approve",
        metavar="WHEN",
        default=None,
        choices=APPROVALS,
        help="tool calls: ask (before each), always (run without asking) or never (refuse); by default "
        "only run_python and MCP tools ask",
    )
    max_rounds: int = option(
        "--max-rounds",
        completes="times",
        metavar="N",
        default=8,
        help="the maximum number of requests in one turn; the last one may not call a tool",
    )
    code: bool = option("--code", help="put the code of the answer into a new cell below", default=False, setting=False)
    fix: bool = option(
        "--fix",
        default=False,
        setting=False,
        help="send the last error and put the fixed cell below; the prompt is an optional remark",
    )
    explain: bool = option(
        "--explain",
        default=False,
        setting=False,
        help="send the last error and ask for an explanation; the prompt is an optional remark",
    )
    schema: object = option(
        "--schema",
        metavar="TYPE",
        default=None,
        completes="schema",
        setting=False,
        help="the type of the answer: a pydantic model, dataclass, TypedDict, list[…] of one, "
        "or a JSON Schema; see .parsed",
    )
    retry: bool = option(
        "--retry", default=False, help="if the answer does not fit --schema, ask once more and list the problems"
    )
    # Rows
    each: str | None = option(
        "--each",
        kind="name",
        metavar="ROWS",
        default=None,
        setting=False,
        completes="rows",
        help="ask for each row of this table, list or iterator; the prompt sees the columns as {{ names }}",
    )
    rows: int | None = option(
        "--rows", metavar="N", default=None, setting=False, help="ask only for the first rows, as a sample"
    )
    concurrency: int = option(
        "--concurrency", metavar="N", default=64, help="with --each: the maximum number of requests in flight"
    )
    rpm: int | None = option(
        "--rpm", metavar="N", default=None, help="with --each: the maximum number of requests in a minute"
    )
    tpm: int | None = option(
        "--tpm", metavar="N", default=None, help="with --each: the maximum number of tokens in a minute"
    )
    via: str | None = option(
        "--via",
        metavar="WAY",
        default=None,
        setting=False,
        choices=("batches",),
        help="with --each: send the rows as batches, which cost half and take up to 24 hours",
    )
    # What the answer may cost, and what is shown
    budget: float | None = option(
        "--budget",
        completes="dollars",
        metavar="USD",
        default=None,
        help="the US dollars that this notebook may cost today; a request that could cost more is not sent",
    )
    dry_run: bool = option(
        "--dry-run", default=False, setting=False, help="show the request and its possible cost; send nothing"
    )
    quiet: bool = option("--quiet", help="show nothing; the Response is still bound", default=False)
    output: str | None = option(
        "-o",
        "--output",
        kind="name",
        completes="names",
        metavar="NAME",
        default=None,
        setting=False,
        help="the variable for the Response, as in `NAME <<`",
    )

    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, given: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Options:
        """Return the options of one request from the values given by name and from the settings.

        Raises:
            OptionError: an option does not exist (the hint is the nearest name), or a value does not fit.

        >>> options = Options.of({"stop": "END"}, settings={"max_tokens": 500})
        >>> options.stop, options.max_tokens, options.chat
        (('END',), 500, 'main')
        """
        for name in given:
            if name not in _BY_NAME:
                raise OptionError(f"unknown option {name!r}", nearest(name, _BY_NAME) or SEE_HELP)
        # c.Nbchat has settings that are not options, such as `ledger`.
        values = {name: value for name, value in (settings or {}).items() if name in _BY_NAME}
        values |= {name: _BY_NAME[name].hold(value) for name, value in given.items()}
        return cls(**values, given=frozenset(given))

    def own(self) -> dict[str, Any]:
        """Return the options that were given for this request, without settings and defaults."""
        return {name: getattr(self, name) for name in _BY_NAME if name in self.given}

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self.own().items())})"


OPTIONS: tuple[Option, ...] = tuple(row_of(field) for field in dataclasses.fields(Options) if field.metadata)
_BY_NAME = {option.name: option for option in OPTIONS}
