"""What is kept: cassette, usage, recover."""

from __future__ import annotations

import time
from typing import Any

from nbchat.core.errors import InputError, OptionError, nearest
from nbchat.notebook.commands.call import Call, table

_PERIODS = ("run", "today", "week", "month", "year", "all")
_GROUPS = ("day", "model", "notebook", "chat", "endpoint", "kind", "month", "status")


def cassette(call: Call) -> None:
    """``cassette FILE [--mode M] [--speed S]``, ``cassette off``, ``cassette``."""
    from nbchat.transports.cassette import MODES, SPEEDS

    words, given = list(call.words), {"--mode": "auto", "--speed": "fast"}
    for flag, known in (("--mode", MODES), ("--speed", SPEEDS)):
        if flag in words:
            at = words.index(flag)
            given[flag] = (words[at + 1 : at + 2] or [""])[0]
            if given[flag] not in known:
                raise OptionError(f"{flag} {given[flag]}: not one of {', '.join(known)}", nearest(given[flag], known))
            del words[at : at + 2]
    if len(words) > 1:
        raise OptionError(f"%nbchat cassette: {' '.join(words[1:])!r} is too much", f"Usage: %nbchat {call.usage}")
    recording = call.session.recording
    if words == ["off"]:
        recording.use_cassette(None)
        print("no cassette: every request is sent")
    elif words:
        recording.use_cassette(words[0], given["--mode"], given["--speed"])
    elif recording.cassette is None:
        print("no cassette is in use; %nbchat cassette FILE begins one")
    else:
        about = recording.cassette.summary()
        done = ", ".join(f"{about[name]} {name}" for name in ("replayed", "sent", "recorded", "missed"))
        print(f"{about['file']}, mode {about['mode']}, {about['recordings']} recordings; here: {done}")


def usage(call: Call) -> Any:
    """``usage [run|today|week|month|year|all] [by day|model|notebook|chat] [csv FILE]``."""
    from nbchat.store.entries import start_of
    from nbchat.view.usage import joined, run_line, run_table, usage_plot, usage_table

    words, period, by, file = list(call.words), "month", "model", None
    while words:
        word = words.pop(0)
        if word in _PERIODS:
            period = word
        elif word == "by" and words and words[0] in _GROUPS:
            by = words.pop(0)
        elif word == "csv" and words:
            file = words.pop(0)
        else:
            known = (*_PERIODS, "by", "csv", *_GROUPS)
            raise OptionError(
                f"%nbchat usage: {word!r} is not understood", nearest(word, known) or f"Usage: %nbchat {call.usage}"
            )
    from nbchat.view.live.view import publish

    accounting, ledger = call.session.accounting, call.session.accounting.ledger
    if period == "run" and not file:
        publish(run_table(accounting.run))
        return
    since = accounting.began if period == "run" else start_of(period, time.time())
    if file:
        print(f"{ledger.export_csv(file, since)} requests are in {file}")
        return
    if accounting.run:
        print(run_line(accounting.run))
    title = "all time" if period == "all" else period if period == "today" else f"this {period}"
    publish(
        joined(
            usage_plot(ledger.totals("day", since), title=f"Cost by day, {title}"),
            usage_table(ledger.totals(by, since), by, title=f"Usage by {by}, {title}"),
        )
    )


def recover(call: Call) -> None:
    """``recover [NAME|all]``: list what killed kernels left, or bring one back."""
    journals = call.session.recording.journals
    found = journals.recoverable()
    if not found:
        print("nothing to recover: no kernel was killed in the middle of an answer")
        return
    if not call.words:
        rows = []
        for entry in found:
            at = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.at))
            rows.append(
                (entry.name, at, entry.notebook or "-", f"{len(entry.text):,}", " ".join(entry.prompt.split())[:50])
            )
        print(table(("name", "asked", "notebook", "letters", "prompt"), rows))
        print("%nbchat recover NAME brings one back as _claude")
        return
    entry = next((entry for entry in found if entry.name == call.word(0)), None)
    if entry is None:
        names = [entry.name for entry in found]
        raise InputError(
            f"%nbchat recover {call.word(0)}: there is no such answer",
            nearest(call.word(0), names) or f"There are: {', '.join(names)}.",
        )
    from nbchat.view.live.view import show

    response = call.session.recover(entry)
    call.shell.user_ns["_claude"] = response
    show(response)
    journals.discard(entry)
