"""``%nbchat models``: the models of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.core.visible import visible
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command

if TYPE_CHECKING:
    from nbchat.engine.endpoint import Endpoint

__all__ = ["models"]


@command("models", "the models of an endpoint", Argument("endpoint", "ENDPOINT", completes="endpoints"))
def models(call: Call, endpoint: str | None) -> None:
    """Print the models with their context windows, prices and capabilities, as the Models API lists them."""
    from nbchat.view.tables import text_table

    given = {"endpoint": endpoint} if endpoint else {}
    chosen = call.session.endpoints.find(call.session.options(given))
    list_models = getattr(chosen.transport, "models", None)
    if list_models is None or chosen.window:
        window = f", with a context window of {chosen.window:,} tokens" if chosen.window else ""
        call.print(visible(f"{chosen.name} serves {chosen.model}{window}"))
        return
    rows = []
    for model in list_models():
        context, output = model.get("max_input_tokens"), model.get("max_tokens")
        sizes = [f"{size:,}" if size else "?" for size in (context, output)]
        price = _price(call, chosen, model.get("id", ""))
        rows.append((model.get("id", "?"), *sizes, price, _capabilities(model)))
    print(text_table(("model", "context", "output", "$ in / out a million", "can"), rows, width=call.width))


def _price(call: Call, endpoint: Endpoint, model: str) -> str:
    """Return the prices of a million tokens in and out, in US dollars; an unknown price is a question mark."""
    from nbchat.core.usage import Usage

    # The price list answers for an amount. A thousand tokens stay below the thresholds of long-context prices.
    thousands = (Usage(input_tokens=1_000), Usage(output_tokens=1_000))
    prices = [call.session.accounting.price(usage, endpoint, model) for usage in thousands]
    return " / ".join("?" if price is None else f"{price * 1000:g}" for price in prices)


def _capabilities(model: dict[str, object]) -> str:
    capabilities = model.get("capabilities")
    if not isinstance(capabilities, dict):
        return ""
    names = {name for name, value in capabilities.items() if isinstance(value, dict) and value.get("supported")}
    return ", ".join(sorted(name.replace("_", " ") for name in names))
