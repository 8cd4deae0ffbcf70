"""nbchat: Claude in a notebook cell.

``%load_ext nbchat``, then write a ``%%claude`` cell. The answer streams into the output, stays in the
notebook as plain safe output, and is a :class:`Response` in your namespace. Without a notebook::

    import nbchat
    print(nbchat.ask("Three names for a cat").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbchat.core.extension_points import provide, provided
from nbchat.distribution import __version__

if TYPE_CHECKING:
    from nbchat.core import errors
    from nbchat.core.chunks import Notice
    from nbchat.core.conversation import Conversation
    from nbchat.core.errors import NbchatError
    from nbchat.core.request import Request, Sink, Transport
    from nbchat.core.response import Response
    from nbchat.core.usage import Usage
    from nbchat.engine.current_session import use_session
    from nbchat.engine.session import Session
    from nbchat.tools.functions import tool
    from nbchat.transports.scripted import ScriptedTransport

__all__ = [
    "Conversation",
    "NbchatError",
    "Notice",
    "Request",
    "Response",
    "ScriptedTransport",
    "Session",
    "Sink",
    "Transport",
    "Usage",
    "__version__",
    "aask",
    "ask",
    "ask_each",
    "attach",
    "batches",
    "each",
    "errors",
    "last_job",
    "load",
    "load_ipython_extension",
    "merge_shards",
    "tool",
    "unload_ipython_extension",
    "usage",
    "use_session",
]

#: The module of each public name. It is imported when the name is first used (PEP 562), so that
#: ``import nbchat`` costs milliseconds.
_MODULES = {
    "Conversation": "nbchat.core.conversation",
    "NbchatError": "nbchat.core.errors",
    "Notice": "nbchat.core.chunks",
    "Request": "nbchat.core.request",
    "Response": "nbchat.core.response",
    "ScriptedTransport": "nbchat.transports.scripted",
    "Session": "nbchat.engine.session",
    "Sink": "nbchat.core.request",
    "Transport": "nbchat.core.request",
    "Usage": "nbchat.core.usage",
    "errors": "nbchat.core",
    "tool": "nbchat.tools.functions",
    "use_session": "nbchat.engine.current_session",
}

# What core and the engine call and may not import.
provide(
    fenced_code="nbchat.view.html.fences:fenced_code",
    marimo="nbchat.notebook.marimo:mime_of",
    render="nbchat.view.final:render",
    table="nbchat.engine.structured:response_table",
    plain="nbchat.engine.structured:plain",
    host="nbchat.notebook.host:current_host",
    notebook_session="nbchat.notebook.host:notebook_session",
    rows_view="nbchat.notebook.rows_view:current_view",
    file_source="nbchat.engine.current_session:file_source",
)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'nbchat' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_MODULES[name])
    value = import_module("nbchat.core.errors") if name == "errors" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def ask(prompt: str, **options: Any) -> Response:
    """Ask one question that stands alone, and return the Response.

    Nothing of earlier answers is sent. With ``chat="NAME"`` the question is the next turn of that conversation,
    which grows with each call, and so does its cost. In a notebook ``chat="main"`` is the one of the cells.
    The session is the notebook's, with its settings, else one that all calls share.

    Args:
        prompt: the prompt. ``{{ … }}`` in it stays as it is; use an f-string.
        options: the options of ``%%claude`` by their long names, as in ``ask("Hi", model="…")``.

    Raises:
        NbchatError: as from :meth:`nbchat.Session.ask`.

    >>> import nbchat
    >>> session = nbchat.Session(nbchat.ScriptedTransport("Whiskers, Mia, Tom", "A cat!", "Miro"))
    >>> nbchat.use_session(session)
    >>> nbchat.ask("Three names for a cat", max_tokens=100).text
    'Whiskers, Mia, Tom'
    >>> _ = nbchat.ask("I have a pet", chat="pets")
    >>> nbchat.ask("Guess its name", chat="pets").text, len(session.conversation("pets").turns)
    ('Miro', 2)
    """
    from nbchat.engine.current_session import current_session

    if "chat" not in options:
        options.setdefault("once", True)
    return current_session().ask(prompt, **options)


async def aask(prompt: str, **options: Any) -> Response:
    """Ask as :func:`ask` does, without blocking the event loop: for web apps, and for ``await`` in a notebook.

    >>> import asyncio, nbchat
    >>> nbchat.use_session(nbchat.Session(nbchat.ScriptedTransport("Hello!")))
    >>> asyncio.run(nbchat.aask("Hi")).text
    'Hello!'
    """
    from nbchat.engine.current_session import current_session

    if "chat" not in options:
        options.setdefault("once", True)
    return await current_session().aask(prompt, **options)


def ask_each(
    rows_in: Any,
    template: str,
    /,
    *,
    rows: int | None = None,
    cassette: str | None = None,
    progress: bool = True,
    fresh: bool = False,
    wait: bool = True,
    **options: Any,
) -> Any:
    """Ask one prompt for each row, and return a Job.

    ``job.frame`` has the answers in the same kind of frame, with the same index. A row that fails has its error in
    the column ``nbchat_error``, and ``job.resume()`` asks it again. Results are on disk before they are shown: the
    same call goes on where an interrupt, an error or the end of the kernel left off, and pays for nothing twice.
    Equal rows are asked once.

    Args:
        rows_in: a pandas, polars or pyarrow table, a Series, a list of dicts or values, or any iterator.
        template: the prompt, with ``{{ … }}`` over the columns, ``row``, and the notebook's names.
        rows: how many of the first rows are asked, as a sample. ``job.estimate`` then says what all would cost; of an
            iterator, what 1,000 rows like these would cost.
        cassette: a file that records the answers, and replays them without a network.
        progress: whether the progress and the first rows are shown.
        fresh: whether answers of earlier runs are ignored, and paid for again.
        wait: whether a run with ``via="batches"`` waits for its batches. ``job.resume()`` waits later.
        options: the options of ``%%claude`` by their long names, such as ``schema``, ``budget`` (US dollars),
            ``concurrency``, ``rpm``, ``tpm`` and ``via="batches"`` (half the price, up to 24 hours).
            With ``dry_run=True`` nothing is sent, and the rows, the tokens and the cost are returned.

    Raises:
        InputError, BudgetError: nothing was sent.
        NbchatError: something that every row would hit, such as a wrong key. ``error.job`` is the job.
        KeyboardInterrupt: the user stopped the run. ``nbchat.last_job()`` is the job.

    >>> import nbchat
    >>> nbchat.use_session(nbchat.Session(nbchat.ScriptedTransport("positive", "negative")))
    >>> job = nbchat.ask_each(["Good!", "Bad."], "Classify: {{ row }}", progress=False, fresh=True)
    >>> [row["answer"] for row in job.frame]
    ['positive', 'negative']
    """
    from nbchat.engine.current_session import current_session
    from nbchat.engine.draft import refuse_cell_options
    from nbchat.rows.run import ask_each as run

    session = current_session()
    made = session.options(options)
    refuse_cell_options(made, except_for=("dry_run",))
    view = provided("rows_view")() if progress and not made.quiet else None
    return run(session, rows_in, template, made, rows=rows, cassette=cassette, fresh=fresh, view=view, waits=wait)


def each(template: str, /, *, share: float = 1.0, shards: Any = None, names: Any = None, **options: Any) -> Any:
    """Return one object that asks a prompt for each row inside Ray Data, Dask, Daft or Spark.

    The object is called with a part of the data, and returns the part with its answers. It can be pickled, and holds
    no key: each worker needs credentials in its own environment. ``each.columns`` are the columns that a part gets.

    Args:
        template: the prompt, with ``{{ … }}`` over the columns.
        share: the part of the limits that one worker may use, such as ``1/8`` for eight workers.
        shards: a folder that all workers see. Results are written there before they are returned, so that a part that
            is done again pays for nothing twice. :func:`merge_shards` takes them into the ledger and the store.
        names: a dict with further names that the template sees.
        options: the options of ``%%claude`` by their long names, such as ``schema``, ``concurrency`` and ``rpm``.

    Raises:
        OptionError, InputError: an option or the schema is wrong.

    >>> import nbchat
    >>> each = nbchat.each("Classify: {{ text }}", max_tokens=50, share=1 / 8)
    >>> each.columns[:2]
    ('answer', 'nbchat_error')
    """
    from nbchat.engine.current_session import current_session
    from nbchat.rows.engines import Each

    return Each(template, options, share=share, shards=shards, names=names, session=current_session())


def merge_shards(shards: Any) -> int:
    """Take the results that workers wrote into shards into the store and the ledger, and return how many were new.

    Afterwards ``ask_each`` with the same prompt, options and rows sends nothing that a worker has asked.

    Args:
        shards: the folder that :func:`each` named.

    Raises:
        InputError: there is no such folder.

    >>> import nbchat, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nbchat.merge_shards(folder)
    0
    """
    from nbchat.engine.current_session import current_session
    from nbchat.rows.engines import merge

    return merge(current_session(), shards)


def batches() -> list[Any]:
    """Return the batches that ``ask_each(…, via="batches")`` sent from this machine, the newest first.

    Each has ``service_id``, ``run``, ``endpoint``, ``model``, ``requests``, ``at`` and ``state``: ``open``, ``ended``
    or ``lost``. Nothing is sent. :func:`attach` fetches the answers.

    >>> import nbchat
    >>> [batch.state for batch in nbchat.batches()]
    []
    """
    from nbchat.rows import attach

    return attach.batches()


def attach(id: str, *, wait: bool = True, progress: bool = True) -> Any:
    """Return the Job of a batch that an earlier kernel sent, with the answers of all batches of its run.

    ``job.frame`` has the rows as they were sent, with their answers. Nothing that costs anything is sent: to ask the
    rows that failed again, repeat the call of ``ask_each``, which also waits for the same batches.

    Args:
        id: the service's id of the batch, as :func:`batches` lists it, or the id of the run.
        wait: whether to wait until the batches have ended. Otherwise ``job.status`` is ``waiting``.
        progress: whether the progress and the first rows are shown.

    Raises:
        InputError: there is no such batch.
        NbchatError: the service did not answer.
        KeyboardInterrupt: the user ended the wait. The batches go on.

    >>> import nbchat
    >>> nbchat.attach("msgbatch_1")
    Traceback (most recent call last):
    ...
    nbchat.core.errors.InputError: there is no batch msgbatch_1 among those that were sent from here
    nbchat.batches() lists them.
    """
    from nbchat.engine.current_session import current_session
    from nbchat.rows.attach import attach as attached

    return attached(current_session(), id, waits=wait, view=provided("rows_view")() if progress else None)


def last_job() -> Any:
    """Return the Job of the last :func:`ask_each`, also of one that was stopped or interrupted; None before the first.

    >>> import nbchat
    >>> nbchat.use_session(nbchat.Session(nbchat.ScriptedTransport()))
    >>> nbchat.last_job() is None
    True
    """
    from nbchat.engine.current_session import current_session

    return current_session().last_job


def load(path: Any) -> Response:
    """Return the Response that ``response.save(path)`` wrote.

    Raises:
        InputError: there is no such file, or it does not hold a Response.

    >>> import nbchat, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = nbchat.Response("**Hello!**").save(Path(folder) / "answer.json")
    ...     nbchat.load(path).text
    '**Hello!**'
    """
    from nbchat.core.errors import InputError
    from nbchat.core.response import Response
    from nbchat.core.saved_files import read_json

    hint = "Give the path of a file that response.save(path) wrote."
    fields = read_json(path, hint)
    if not isinstance(fields, dict) or fields.get("format") != "nbchat.response/1":
        raise InputError(f"{path} does not hold a Response", hint)
    try:
        return Response.from_dict(fields)
    except InputError as error:
        raise InputError(f"{path} does not hold a valid Response: {error.message}", error.hint) from None


def usage(period: str = "all", by: Any = ()) -> Any:
    """Return the ledger as a pandas DataFrame, with a row for every request.

    Costs are in US dollars. An unknown cost is NaN.

    Args:
        period: ``run`` (since this kernel's session began), ``today``, ``week``, ``month``, ``year`` or ``all``.
        by: the columns to add up by: ``day``, ``month``, ``model``, ``notebook``, ``chat``, ``endpoint``,
            ``kind`` or ``status``, or a list of these.

    Raises:
        OptionError: there is no such period or column.
        InputError: pandas is not installed, or the ledger cannot be read.

    >>> import nbchat
    >>> nbchat.use_session(nbchat.Session(nbchat.ScriptedTransport("Hello!")))
    >>> response = nbchat.ask("Hi")
    >>> nbchat.usage("run")[["kind", "status"]].values.tolist()
    [['answer', 'complete']]
    """
    from nbchat.engine.current_session import current_session

    return current_session().accounting.usage(period, by)


def load_ipython_extension(shell: Any) -> None:
    """Add ``%%claude``, ``%claude`` and ``%nbchat`` to the shell (``%load_ext nbchat``).

    >>> import nbchat
    >>> from IPython.core.interactiveshell import InteractiveShell
    >>> shell = InteractiveShell.instance()
    >>> nbchat.load_ipython_extension(shell)
    >>> "claude" in shell.magics_manager.magics["cell"]
    True
    >>> nbchat.unload_ipython_extension(shell)
    >>> InteractiveShell.clear_instance()
    """
    from nbchat.notebook.magics import install

    install(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics out of the shell again (``%unload_ext nbchat``).

    >>> import nbchat
    >>> from IPython.core.interactiveshell import InteractiveShell
    >>> shell = InteractiveShell.instance()
    >>> nbchat.load_ipython_extension(shell)
    >>> nbchat.unload_ipython_extension(shell)
    >>> "claude" in shell.magics_manager.magics["cell"]
    False
    >>> InteractiveShell.clear_instance()
    """
    from nbchat.notebook.magics import uninstall

    uninstall(shell)
