"""One object that asks a prompt for each row inside Ray Data, Dask, Daft or Spark.

The engine splits the data and starts the workers. An :class:`Each` is what a worker calls with its part. It can be
pickled, knows its columns, and holds no key and no connection: those come from the worker's own environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from nbchat.core.entries import Entry
from nbchat.core.errors import InputError, NbchatError, OptionError
from nbchat.engine.host import PlainHost
from nbchat.engine.session import Session
from nbchat.options import OPTIONS
from nbchat.rows.answers import COST, ERROR, Answers
from nbchat.rows.estimate import Estimate
from nbchat.rows.frames import read_frame
from nbchat.rows.plan import row_options
from nbchat.rows.result import Result
from nbchat.rows.run import ask_each
from nbchat.rows.shards import Shard, ShardedStore, read_shards
from nbchat.rows.store import Store
from nbchat.rows.worker import Worker
from nbchat.tools.answer_type import AnswerType

__all__ = ["Each", "RayEach", "merge"]

#: The columns with the tokens of each row.
INPUT_TOKENS, OUTPUT_TOKENS = "nbchat_input_tokens", "nbchat_output_tokens"
#: Options that a worker divides, because the limits are those of the whole account.
_SHARED = ("concurrency", "rpm", "tpm")
_REFUSED = {
    "budget": "workers do not see what other workers spend",
    "via": "a batch needs no workers",
    "dry_run": "a worker has only a part of the rows",
    "each": "the engine has the rows",
    "rows": "the engine has the rows",
}


class Each:
    """Asks a prompt for each row of a part of the data.

    Args:
        template: the prompt, with ``{{ … }}`` over the columns and over ``names``.
        options: the options of the run by their long names.
        share: the part of the account's limits that one worker may use, above 0 and at most 1.
        shards: a folder that all workers see, for the results; None for none.
        names: further names that the template sees.

    Attributes:
        columns: the names of the columns that a part gets.

    Raises:
        OptionError, InputError: an option or the schema is wrong.

    >>> import pickle
    >>> each = Each("Classify: {{ text }}", {"max_tokens": 50}, share=1 / 8)
    >>> pickle.loads(pickle.dumps(each)).columns
    ('answer', 'nbchat_error', 'nbchat_cost', 'nbchat_input_tokens', 'nbchat_output_tokens')
    """

    def __init__(
        self,
        template: str,
        options: Mapping[str, Any] | None = None,
        *,
        share: float = 1.0,
        shards: str | os.PathLike[str] | None = None,
        names: Mapping[str, Any] | None = None,
        session: Session | None = None,
    ) -> None:
        if not 0 < share <= 1:
            raise OptionError(f"share={share}: the share of a worker is above 0 and at most 1", "With 8 workers: 1/8.")
        given = dict(options or {})
        for name, reason in _REFUSED.items():
            if given.get(name):
                raise OptionError(f"{name}: {reason}", f"Leave out {name}, or use nbchat.ask_each.")
        made = (session or Session()).options(given)
        row_options(made)
        # All that differs from the defaults: the worker does not have the settings of this notebook.
        own = {option.name: getattr(made, option.name) for option in OPTIONS}
        own = {option.name: own[option.name] for option in OPTIONS if own[option.name] != option.default}
        self.template, self.share, self.names = template, share, dict(names or {})
        self.options: dict[str, Any] = {**{k: v for k, v in own.items() if k not in ("chat", "budget")}, **given}
        for name in _SHARED:
            if (limit := getattr(made, name)) is not None:
                self.options[name] = max(1, int(limit * share))
        self.shards = None if shards is None else os.fspath(shards)
        self._answers_of_schema()  # a wrong schema is an error here, and not on each worker
        self.columns: tuple[str, ...] = (*self._answers_of_schema().names, INPUT_TOKENS, OUTPUT_TOKENS)

    def _answers_of_schema(self) -> Answers:
        schema = self.options.get("schema")
        return Answers(None if schema is None else AnswerType.of(schema))

    def _types(self) -> dict[str, type | None]:
        return {**self._answers_of_schema().types, INPUT_TOKENS: int, OUTPUT_TOKENS: int}

    def __repr__(self) -> str:
        return f"<Each {self.template!r}, {', '.join(self.columns)}>"

    def __call__(self, part: Any) -> Any:
        """Return a part of the data with its answers, in the same kind of frame.

        Args:
            part: a pandas, polars or pyarrow table, or a dict of columns.

        Raises:
            NbchatError: something that every row would hit. The engine decides if it tries the part again.
        """
        frame = read_frame(part)
        if not any(True for _ in islice(frame.rows(), 1)):
            return _typed(frame.build({name: [] for name in self.columns}, self._types()))
        session, _, worker = _of_process()
        options = session.options(self.options)
        try:
            job = ask_each(
                session,
                part,
                self.template,
                options,
                namespace=self.names,
                store=_store(self.shards),
                worker=worker,
            )
        except NbchatError as failure:
            # The error travels to the driver, and a job cannot be pickled.
            failure.__dict__.pop("job", None)
            raise
        assert not isinstance(job, Estimate)  # dry_run is refused
        results = list(job.results())
        columns = job.answers.columns(results)
        columns[INPUT_TOKENS] = [result.usage.prompt_tokens for result in results]
        columns[OUTPUT_TOKENS] = [result.usage.output_tokens for result in results]
        return _typed(frame.build(columns, self._types()))

    def meta(self, frame: Any) -> Any:
        """Return an empty frame with the columns of the answers, which Dask takes as ``meta``.

        Args:
            frame: a Dask or pandas table.
        """
        empty = getattr(frame, "_meta", frame)
        return self(empty.iloc[:0])

    def map_in_pandas(self, parts: Iterator[Any]) -> Iterator[Any]:
        """Yield each part with its answers: the form that Spark's ``mapInPandas`` takes."""
        for part in parts:
            yield self(part)


class RayEach:
    """An asynchronous actor of Ray Data: it works on several parts at once, where a plain one takes one by one.

    Args:
        each: asks the rows of a part.
    """

    def __init__(self, each: Each) -> None:
        self._each = each

    async def __call__(self, part: Any) -> Any:
        """Yield a part with its answers."""
        import asyncio

        yield await asyncio.to_thread(self._each, part)


def merge(session: Session, shards: str | os.PathLike[str], *, store: Store | None = None) -> int:
    """Take what the workers wrote into the user's store and ledger, and return how many results were new.

    Afterwards :func:`nbchat.ask_each` with the same prompt and rows sends nothing that a worker has asked.

    Args:
        session: its ledger gets a row for each request that a worker sent.
        shards: the folder.
        store: takes the results; None for the user's own file.

    Raises:
        InputError: there is no such folder.
    """
    store = store or Store()
    count = 0
    for shard in read_shards(shards):
        kept = store.find(result.digest for result in shard.results)
        new: dict[str, Result] = {}
        for result in shard.results:
            before = new.get(result.digest) or kept.get(result.digest)
            if before is None or (result.ok and not before.ok):
                new[result.digest] = result
        store.add(new.values())
        requests = _not_booked(shard, store)
        session.accounting.write_all([replace(entry, notebook=session.accounting.notebook) for entry in requests])
        count += len(new)
    return count


def _not_booked(shard: Shard, store: Store) -> list[Entry]:
    """Return the requests of a shard that no merge has booked, and note that they are booked now.

    A worker only appends to its shard, so their number says which ones they are.
    """
    booked = 0

    def note(connection: Any) -> None:
        nonlocal booked
        row = connection.execute("SELECT requests FROM booked_shards WHERE shard = ?", [shard.name]).fetchone()
        booked = row[0] if row is not None else 0
        most = max(booked, len(shard.requests))
        connection.execute("INSERT OR REPLACE INTO booked_shards VALUES (?, ?)", [shard.name, most])

    store.write_safely(note)  # another kernel may merge the same folder
    return shard.requests[booked:]


def _typed(frame: Any) -> Any:
    """Return a frame whose own columns have the same types in every part: engines compare them."""
    if type(frame).__module__.partition(".")[0] != "pandas":
        return frame
    types = {COST: "float64", INPUT_TOKENS: "int64", OUTPUT_TOKENS: "int64", ERROR: "object"}
    return frame.astype(types)


#: The session, the stores by their folders, and the loop of this process, by its id: a fork must not use them.
_kept: dict[int, tuple[Session, dict[str | None, Store], Worker]] = {}
_lock = threading.Lock()


def _of_process() -> tuple[Session, dict[str | None, Store], Worker]:
    with _lock:  # an asynchronous actor begins several parts at once
        if os.getpid() not in _kept:
            _kept.clear()
            session = Session(host=PlainHost())
            # The driver books what the workers spend (`merge`): the user's own files are not on their machines.
            session.config.ledger = False
            _kept[os.getpid()] = (session, {}, Worker())
        return _kept[os.getpid()]


def _store(shards: str | None) -> Store:
    stores = _of_process()[1]
    with _lock:
        if shards not in stores:
            try:
                stores[shards] = Store(":memory:") if shards is None else ShardedStore(shards)
            except OSError as error:
                raise InputError(
                    f"the folder {shards} of the shards cannot be used: {error.strerror}", "Give another folder."
                ) from None
        store = stores[shards]
    if isinstance(store, ShardedStore):
        store.refresh()
    return store
