"""Settings: ``c.Nbchat.*`` in a configuration file, ``%config Nbchat.*``, and ``NBCHAT_*`` variables.

A line's option goes before what ``%config`` set, that before a variable of the environment, that
before a configuration file, that before the default.
"""

from __future__ import annotations

import ast
import difflib
import os
import warnings
from collections.abc import Mapping
from typing import Any

from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, TraitType, Unicode
from traitlets.config import Configurable

from nbchat.core.errors import OptionError, nearest
from nbchat.options import OPTIONS, Option

__all__ = ["Nbchat"]


def _trait(option: Option) -> TraitType[Any, Any]:
    help_of: dict[str, Any] = {"help": f"{option.help} ({', '.join(option.flags)})"}
    may_be_none: dict[str, Any] = {"allow_none": option.default is None, **help_of}
    if option.choices:
        return Enum(option.choices, option.default, **may_be_none)
    match option.kind:
        case "int":
            return Int(option.default, min=1, **may_be_none)
        case "number":
            return Float(option.default, min=0, **may_be_none)
        case "switch":
            return Bool(option.default, **help_of)
        case "list":
            return List(Unicode(), **help_of)
    return Unicode(option.default, **may_be_none)


def _read(trait: TraitType[Any, Any], text: str) -> Any:
    """The value of a variable of the environment; a list may be one word."""
    if isinstance(trait, List) and not text.lstrip().startswith("["):
        return [text]
    if isinstance(trait, Dict):
        return ast.literal_eval(text)  # from_string does the same, with a warning about command lines
    return trait.from_string(text)


def _wanted(trait: TraitType[Any, Any]) -> str:
    """What a variable of the environment should hold."""
    match trait:
        case Enum():
            return f"one of {', '.join(trait.values or ())}"
        case Int() | Float():
            least = "" if trait.min in (None, float("-inf")) else f" of at least {trait.min:g}"
            return ("a whole number" if isinstance(trait, Int) else "a number") + least
        case Bool():
            return "true or false"
        case Dict():
            return "a Python dict such as {'name': …}"
        case List():
            return "a word, or a Python list such as ['…']"
    return "another text"


class Nbchat(Configurable):
    """The settings of nbchat. What the table of options has comes from there; the rest is here."""

    endpoints = Dict(
        help="further endpoints: a name, and its base URL, {'base_url': …, 'api_key_env': 'NAME_OF_VARIABLE'} "
        "or a Transport"
    ).tag(config=True)
    idle_timeout = Float(120.0, help="seconds that content of an answer may fail to come").tag(config=True)
    max_retries = Int(2, min=0, help="further tries before the first event of an answer").tag(config=True)
    local_model = Unicode(None, allow_none=True, help="the GGUF file of --endpoint local; else the built-in").tag(
        config=True
    )

    prices = Dict(
        help="prices that genai-prices does not know: {model: {'input': …, 'output': …}}, US dollars a million tokens"
    ).tag(config=True)
    cassette = Unicode(None, allow_none=True, help="the cassette every session begins with (%nbchat cassette)").tag(
        config=True
    )
    cassette_mode = Unicode(None, allow_none=True, help="auto, replay, record or off; goes before --mode").tag(
        config=True
    )
    user = Unicode("", help="who asks, for telemetry; else JupyterHub's user, for Langfuse the login").tag(config=True)
    ledger = Bool(True, help="whether usage is written into the ledger").tag(config=True)
    journal = Bool(True, help="whether answers are kept on disk while they arrive").tag(config=True)
    echo = Unicode(None, allow_none=True, help="a file that gets the text of every answer as it arrives").tag(
        config=True
    )

    locals().update({option.name: _trait(option).tag(config=True) for option in OPTIONS if option.setting})

    def __init__(self, environment: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: Where each value that is not a default came from.
        self.sources: dict[str, str] = {}
        for name in self.class_trait_names(config=True):
            if name in self._config_keys():
                self.sources[name] = "configuration file"
        self._read_environment(os.environ if environment is None else environment)
        self.observe(self._note_change, names=self.class_trait_names(config=True))

    def settings(self) -> dict[str, Any]:
        """All values by name."""
        values = {name: getattr(self, name) for name in self.class_trait_names(config=True)}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    def _config_keys(self) -> set[str]:
        return set(self.config.get("Nbchat", {})) if self.config else set()

    def _note_change(self, change: Any) -> None:
        self.sources[change["name"]] = "%config"

    def _read_environment(self, environment: Mapping[str, str]) -> None:
        traits = self.traits(config=True)
        for name, trait in traits.items():
            variable = f"NBCHAT_{name.upper()}"
            if not (text := environment.get(variable, "")):
                continue
            try:
                setattr(self, name, _read(trait, text))
            except (TraitError, ValueError, SyntaxError):
                raise OptionError(
                    f"{variable}={text}: it should be {_wanted(trait)}", f"{variable}: {trait.help}."
                ) from None
            self.sources[name] = variable
        for variable in environment:
            prefix, _, name = variable.partition("NBCHAT_")
            if prefix or name.lower() in traits:
                continue
            # Others may have variables of their own; only what looks very much like one of ours is a typo.
            for meant in difflib.get_close_matches(name.lower(), traits, n=1, cutoff=0.75):
                said = f"nbchat: {variable} is no setting and was ignored. Did you mean NBCHAT_{meant.upper()}?"
                warnings.warn_explicit(said, RuntimeWarning, "nbchat", 1)

    def update_config(self, config: Any) -> None:
        """Take what ``%config Nbchat.NAME = …`` gives.

        Raises:
            OptionError: there is no such setting; the nearest is named. IPython shows it.
        """
        self.check(config.get("Nbchat", {}))
        super().update_config(config)

    def check(self, keys: Mapping[str, Any]) -> None:
        """Raise OptionError for a key that is no setting, naming the nearest."""
        for key in keys:
            if key not in self.class_trait_names(config=True):
                raise OptionError(
                    f"c.Nbchat.{key}: there is no such setting",
                    nearest(key, self.class_trait_names(config=True)) or "%nbchat config lists them.",
                )
