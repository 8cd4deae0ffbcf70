"""The session that ``nbchat.ask`` and ``nbchat.usage`` use."""

from __future__ import annotations

import threading

from nbchat.core.extension_points import provided
from nbchat.engine.files import MadeFiles
from nbchat.engine.session import Session

__all__ = ["current_session", "file_source", "use_session"]

#: The session that ``use_session`` chose, or that this module made. Empty until then.
_current: list[Session] = []
_making = threading.Lock()


def current_session() -> Session:
    """Return the session that ``nbchat.ask`` uses.

    This is the session of ``use_session``, else the notebook's after ``%load_ext nbchat``, else one
    that is made here at the first call.
    """
    # Two threads that ask at once share one session.
    with _making:
        if _current:
            return _current[0]
        session: Session | None = provided("notebook_session")()
        if session is None:
            session = Session()
            _current.append(session)
        return session


def use_session(session: Session) -> None:
    """Let ``nbchat.ask`` and ``nbchat.usage`` use this session.

    >>> import nbchat
    >>> nbchat.use_session(nbchat.Session(nbchat.ScriptedTransport("Hello!")))
    >>> nbchat.ask("Hi").text
    'Hello!'
    """
    _current[:] = [session]


def file_source(endpoint: str) -> MadeFiles:
    """Return the source of the files of an answer that came from a file or from another process.

    Args:
        endpoint: the name of the endpoint that answered.

    Raises:
        OptionError: the current session has no endpoint of that name.
    """
    session = current_session()
    return MadeFiles(session.endpoints.find(session.options({"endpoint": endpoint})), session.recording)
