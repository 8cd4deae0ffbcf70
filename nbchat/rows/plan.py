"""A plan: what each row sends. It is made once, from the template, the options and the first rows.

The first row is prepared as a cell is, with everything that can fail before a request is sent. The requests of
the other rows differ from the request of the first row in the prompt alone. The digest of a row costs
microseconds, so that a run which was finished before is recognised before its requests are built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.content.sizes import estimate_tokens
from nbchat.context.values import carry
from nbchat.core.errors import InputError, OptionError, TemplateError
from nbchat.core.fields import storable
from nbchat.core.messages import Message
from nbchat.core.request import Digests, Request
from nbchat.core.template import Filled, fill_parts, split
from nbchat.engine.citations import with_citations
from nbchat.engine.draft import before_prompt, file_form, refuse_empty
from nbchat.engine.fitting import MANY_TOKENS, fit_model, fit_window
from nbchat.engine.prepared import Prepared
from nbchat.engine.session import Session
from nbchat.engine.turn import Turn
from nbchat.models import Model
from nbchat.options import Options
from nbchat.rows.answers import Answers
from nbchat.rows.template_faults import explain, is_missing

__all__ = ["Plan", "PlannedRow", "refuse_options", "row_options"]

#: How many of the first rows may fail before the run does: a template that fits no row is a mistake.
_FIRST_ROWS = 20
#: Longer answers are streamed, since the API does not hold a connection open for a silent one.
_UNSTREAMED_TOKENS = 16_000
#: A longer prompt is checked as a cell's is, against the window of its model.
_MANY_CHARACTERS = MANY_TOKENS * 2
#: Options that a row cannot have, and the reason.
_REFUSED = {
    "tools": "rows cannot call tools",
    "run": "rows cannot run code in the notebook",
    "approve": "rows cannot call tools",
    "max_rounds": "rows cannot call tools",
    "chat": "each row stands alone, without a conversation",
    "trim": "each row stands alone, without a history",
    "upload": "rows send their files with the prompt",
    "code_execution": "rows cannot use a container of the service",
    "code": "rows have no cell below",
    "fix": "rows have no error to fix",
    "go_on": "rows have no answer to continue",
    "explain": "rows have no error to explain",
}


def refuse_options(options: Options, reasons: Mapping[str, str], way_out: str) -> None:
    """Refuse the options that a run cannot obey.

    Args:
        options: the options of the run.
        reasons: why each option is refused, by its name.
        way_out: what else to do than to leave the option out.

    Raises:
        OptionError: such an option was given.
    """
    for name, reason in reasons.items():
        if name in options.given and getattr(options, name):
            raise OptionError(f"{name}: {reason}, so nothing was sent", f"Leave out {name}, or {way_out}.")


def row_options(options: Options) -> Options:
    """Return the options of each row of a run.

    Raises:
        OptionError: an option was given that rows cannot have.
    """
    refuse_options(options, _REFUSED, "ask in a cell")
    stream = options.stream and options.max_tokens > _UNSTREAMED_TOKENS
    # The mark of the prompt cache is placed by the plan, and the budget is kept by the run.
    given = options.given - {"cache", "budget"}
    return replace(options, once=True, upload=False, budget=None, stream=stream, given=given)


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One row with its template filled.

    Attributes:
        digest: the digest of its request.
        content: the blocks of the prompt.
        tokens: about how many tokens the prompt has, without what all rows share around it.
    """

    digest: str
    content: tuple[dict[str, Any], ...]
    tokens: int


class Plan:
    """What the rows of a run send.

    Use one plan in one thread at a time: the expressions of the template are evaluated there.

    Args:
        session: finds the endpoint, and prepares the first row.
        template: the prompt, with ``{{ … }}`` over columns and over names of the notebook.
        options: the options, as :func:`row_options` returned them.
        first: the first rows, as :meth:`Frame.rows` yields them.
        namespace: the notebook's names.
        carried: content that goes before the prompt of every row.

    Raises:
        InputError: the template fits none of the first rows, or an option or the schema is wrong.

    >>> from nbchat import ScriptedTransport, Session
    >>> session = Session(ScriptedTransport("positive"))
    >>> rows = [{"text": "Good!"}, {"text": "Bad."}]
    >>> plan = Plan(session, "Classify: {{ text }}", row_options(session.options({})), rows)
    >>> plan.request(plan.row(rows[1])).messages[0].text
    'Classify: Bad.'
    """

    def __init__(
        self,
        session: Session,
        template: str,
        options: Options,
        first: Iterable[Mapping[str, Any]],
        *,
        namespace: Mapping[str, Any] | None = None,
        carried: Sequence[Carried] = (),
    ) -> None:
        self._session, self._options, self._form = session, options, file_form(options)
        first = list(islice(first, _FIRST_ROWS))
        try:
            self._parts = split(template)
        except TemplateError as error:
            raise explain(error, first[0] if first else {}) from error.__cause__
        self._before = before_prompt(carried)
        self._names = dict(namespace or {})
        self._scope, self._hidden = dict(self._names), frozenset[str]()
        self.prepared: Prepared = self._prepare(template, first, carried)
        #: The columns of the answers.
        self.answers = Answers(self.prepared.draft.schema)
        self._request = self.prepared.request
        # The way `words` adds an instruction to the prompt, which is the same for all rows.
        own = len(self.prepared.draft.prompt.content)
        self._after = self._request.messages[-1].content[own:]
        self._digests = self._fast_digests()
        self._around = self._tokens_around()
        #: About how many tokens the prompt of the first row has.
        self.first_tokens = self._around + estimate_tokens(
            [block.to_dict() for block in self.prepared.draft.prompt.content]
        )
        self._request = self._marked(self._request)

    # Preparing

    def _prepare(self, template: str, first: Iterable[Mapping[str, Any]], carried: Sequence[Carried]) -> Prepared:
        failure: InputError | None = None
        # A row without a value is not sent, so that it is a bad example.
        for fields in sorted(first, key=self._has_no_value):
            try:
                return self._session.prepare(
                    template, self._options, namespace=self._scope_of(fields), carried=carried, has_tools=False
                )
            except OptionError:
                raise
            except TemplateError as error:
                failure = failure or explain(error, fields)
            except InputError as error:  # perhaps of this row alone
                failure = failure or error
        raise failure if failure is not None else InputError("there are no rows, so nothing was sent", "Give rows.")

    def _fast_digests(self) -> Digests | None:
        """Return the digests of rows that are one text; None where the text is not alone in the request."""

        def request_of(text: str) -> Request:
            return self._with_content(({"type": "text", "text": text},))

        try:
            return Digests(request_of)
        except ValueError:
            return None

    def _tokens_around(self) -> int:
        request, after = self._request, [block.to_dict() for block in self._after]
        # The service puts the schema of a typed answer into the system prompt.
        schema = [*request.tools, request.params.get("output_config", {}).get("format", {})]
        texts = [*after, *({"type": "text", "text": str(part)} for part in (request.system, *schema) if part)]
        return estimate_tokens(texts)

    def _marked(self, request: Request) -> Request:
        """Return the request with a cache mark at the end of what all rows share, if that is long enough."""
        if self._options.cache == "off":
            return request
        literal = [self._parts[0]] if isinstance(self._parts[0], str) else []
        shared = carry([*self._before, *literal], form=self._form).content if self._before or literal else ()
        is_text = bool(shared) and shared[-1]["type"] == "text"
        place = (len(shared) - is_text, len(shared[-1]["text"]) if is_text else 0)
        if len(self._parts) == 1:  # every row sends the same, so no second one is sent
            return request
        tokens = self._around + estimate_tokens(shared)
        if tokens < Model.of(request.model).least_cached_tokens or not (shared or request.system or request.tools):
            return request
        return replace(request, shared=place, shared_ttl=self._options.cache)

    # Rows

    @property
    def is_cached(self) -> bool:
        """Return True if the requests share a beginning that the service keeps: the first row then goes alone."""
        return self._request.shared is not None

    @property
    def first(self) -> Request:
        """Return the request of the first row that the template fits."""
        return self._request

    def row(self, fields: Mapping[str, Any]) -> PlannedRow:
        """Return one row with its template filled.

        Raises:
            InputError: the template does not fit this row, or a value of the row cannot be sent.
        """
        filled = fill_parts(self._parts, self._scope_of(fields))
        _refuse_missing(filled)
        text = None if self._before else _plain_text(filled)
        if text is not None and self._digests is not None:
            text = storable(text)
            content: tuple[dict[str, Any], ...] = ({"type": "text", "text": text},)
            return PlannedRow(self._digests.of(text), content, self._around + estimate_tokens(text))
        asked = carry([*self._before, *filled], form=self._form)
        refuse_empty(asked)
        tokens = self._around + estimate_tokens(asked.content)
        return PlannedRow(self._with_content(asked.content).digest, asked.content, tokens)

    def _has_no_value(self, fields: Mapping[str, Any]) -> bool:
        """Return True if the template has names of columns only, and the row has no value for any of them."""
        names = [part.source for part in self._parts if not isinstance(part, str)]
        return bool(names) and all(name in fields and is_missing(fields[name]) for name in names)

    def _scope_of(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the names that the template sees: those of the row, and those of the notebook."""
        scope = self._scope
        # A name that only the row before had must not be left over.
        for name in self._hidden - fields.keys():
            if name in self._names:
                scope[name] = self._names[name]
            else:
                scope.pop(name, None)
        scope.update(fields)
        self._hidden = frozenset(fields)
        return scope

    def _with_content(self, content: tuple[dict[str, Any], ...]) -> Request:
        draft = self.prepared.draft
        (message,) = with_citations((Message.of("user", content),), draft.cite, typed=draft.schema is not None)
        message = Message("user", (*message.content, *self._after))
        return replace(self._request, messages=(*self._request.messages[:-1], message))

    def request(self, row: PlannedRow) -> Request:
        """Return the request of a row.

        Raises:
            InputError: the model does not accept the request, or the request does not fit its window.
        """
        request = self._with_content(row.content)
        if self._is_simple(row):
            return request
        endpoint, describe = self.prepared.endpoint, self._session.endpoints.describe
        draft = replace(self.prepared.draft, prompt=Message.of("user", row.content), with_values_in=None)
        fit_model(draft, request, endpoint, describe)
        fit_window(
            draft,
            request,
            endpoint,
            trim=False,
            describe=None if self._session.recording.replays_only else describe,
            count=lambda request: self._session.count(request, endpoint),
        )
        return request

    def _is_simple(self, row: PlannedRow) -> bool:
        """Return True if a row needs no check of its own: a short text fits every model and every window."""
        window = self.prepared.endpoint.window
        is_text = all(block["type"] == "text" for block in row.content)
        return is_text and (row.tokens < window // 2 if window else row.tokens < MANY_TOKENS)

    def turn(self, request: Request, clock: Any) -> Turn:
        """Return the turn of a request. ``clock`` returns seconds that never go back."""
        return Turn(
            request,
            request.messages[-1],
            clock=clock,
            schema=self.prepared.draft.schema,
            retry=self._options.retry,
        )


def _refuse_missing(filled: Sequence[str | Filled]) -> None:
    """Refuse a row that has no value for any expression of the template.

    Raises:
        InputError: the row would only ask about "nan" or "None".
    """
    values = [part for part in filled if not isinstance(part, str)]
    if values and all(is_missing(part.value) for part in values):
        names = ", ".join(dict.fromkeys(f"{{{{ {part.source} }}}}" for part in values))
        raise InputError(
            f"the row has no value for {names}: {values[0].value}, so it was not sent",
            "Leave such rows out, or fill in a word such as 'unknown'.",
        )


def _plain_text(filled: Sequence[str | Filled]) -> str | None:
    """Return a filled template as one text, or None if a value is more than a short text."""
    texts: list[str] = []
    for part in filled:
        value = part if isinstance(part, str) else part.value
        if type(value) is not str:
            return None
        texts.append(value)
    text = "".join(texts)
    return text if len(text) < _MANY_CHARACTERS and text.strip() else None
