"""Send what a session prepared, in the event loop that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.core.response import Response
from nbchat.engine.asking import Asking, SinksOrMaker, running_turns, span_of
from nbchat.engine.async_doors import open_door, shared_door
from nbchat.engine.drive_async import AsyncDriver
from nbchat.engine.prepared import Prepared
from nbchat.engine.turn import refused

if TYPE_CHECKING:
    from nbchat.engine.session import Session

__all__ = ["send"]


async def send(session: Session, prepared: Prepared, sinks: SinksOrMaker = ()) -> Response:
    """Send what was prepared, and return the Response. Raises as :meth:`Session.ask` does."""
    with span_of(session, prepared) as span:
        asking = Asking(session, prepared, sinks)
        uploads = asking.door is not prepared.endpoint
        door = open_door(asking.door) if uploads else shared_door(prepared.endpoint.transport)
        driver = AsyncDriver(
            *(door, prepared.endpoint.name, session.recording, asking.account, prepared.toolbox, session.host),
            *(asking.files, asking.sinks, asking.notices),
        )
        mark = asking.mark_running()
        failure: BaseException | None = None
        try:
            await driver.run(asking.turn)
        except BaseException as error:
            failure = error
            raise
        finally:
            running_turns.reset(mark)
            response = asking.settle(span, failure)
        if response.status == "refused":
            raise refused(response)
        return response
