"""What there is: show, models, endpoints, config, system, doctor."""

from __future__ import annotations

from nbchat.core.errors import InputError, NbchatError
from nbchat.notebook.commands.call import Call, table


def show(call: Call) -> None:
    from nbchat.core.response import Response
    from nbchat.view.live import view as live

    name = call.word(0)
    response = call.shell.user_ns.get(name) if name else call.session.last
    if not isinstance(response, Response):
        what = f"{name!r} is no Response" if name else "there is no answer yet"
        raise InputError(f"%nbchat show: {what}", "Name a variable that holds one, or ask with %%claude first.")
    live.show(response)


def endpoints(call: Call) -> None:
    known = call.session.endpoints
    try:
        answering = known.find(call.session.options({}))
        print(f"{answering.name} answers, with {answering.model}")
    except NbchatError as error:
        print(f"none answers: {error.message}\n{error.hint}")
    print("known: " + ", ".join(known.names()) + ", or any base URL; name one with --endpoint")


def models(call: Call) -> None:
    given = {"endpoint": call.word(0)} if call.words else {}
    endpoint = call.session.endpoints.find(call.session.options(given))
    listing = getattr(endpoint.transport, "models", None)
    if listing is None or endpoint.window:
        window = f", with a context window of {endpoint.window:,} tokens" if endpoint.window else ""
        print(f"{endpoint.name} serves {endpoint.model}{window}")
        return
    rows = []
    for model in listing():
        context, output = model.get("max_input_tokens"), model.get("max_tokens")
        sizes = [f"{size:,}" if size else "?" for size in (context, output)]
        rows.append((model.get("id", "?"), *sizes, _price(call, endpoint.priced_as, model.get("id", "")), _can(model)))
    print(table(("model", "context", "output", "$ in / out a million", "can"), rows))


def _price(call: Call, endpoint: str, model: str) -> str:
    from nbchat.core.usage import Usage
    from nbchat.store.prices import cost_of

    overrides = call.session.config.prices
    prices = [
        cost_of(Usage(**{tokens: 1_000}), model, endpoint, overrides=overrides)
        for tokens in ("input_tokens", "output_tokens")
    ]
    return " / ".join("?" if price is None else f"{price * 1000:g}" for price in prices)


def _can(model: dict[str, object]) -> str:
    capabilities = model.get("capabilities")
    if not isinstance(capabilities, dict):
        return ""
    named = {name for name, value in capabilities.items() if isinstance(value, dict) and value.get("supported")}
    return ", ".join(sorted(name.replace("_", " ") for name in named))


def config(call: Call) -> None:
    settings = call.session.config
    rows = [
        (name, repr(value), settings.sources.get(name, "default"))
        for name, value in sorted(settings.settings().items())
    ]
    print(table(("setting", "value", "from"), rows))


def system(call: Call) -> None:
    """The system prompt as it would be sent: the text, and where it comes from."""
    from nbchat.engine.draft import system_of

    given = call.session.options({}).system
    if not given:
        print("no system prompt is set; %config Nbchat.system = '…' sets one, -s gives one for a cell")
        return
    text = system_of(given, call.shell.user_ns) or ""
    print(text if text == given else f"from {given}:\n{text}")


def doctor(call: Call) -> None:
    from nbchat.engine.doctor import examine

    examine(call.session)
