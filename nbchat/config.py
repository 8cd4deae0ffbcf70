"""Settings: ``c.Nbchat.*`` in a configuration file, ``NBCHAT_*`` variables, and ``%config Nbchat.*``.

The strongest source wins. From strong to weak:

1. an option on the line of a cell, or a keyword of ``nbchat.ask``,
2. a keyword of ``nbchat.Session``,
3. ``%config Nbchat.NAME = …`` in the notebook,
4. an ``NBCHAT_NAME`` variable of the environment,
5. ``c.Nbchat.NAME = …`` in ``ipython_config.py``,
6. the default.
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
from nbchat.core.secrets import mask
from nbchat.core.visible import visible
from nbchat.options import OPTIONS, Option

__all__ = ["Nbchat"]

#: How similar a variable must be to one of ours to be reported as a typo. Other programs may have
#: NBCHAT_… variables of their own, such as NBCHAT_CHROMIUM, and these must not cause a warning.
TYPO_SIMILARITY = 0.75


def _trait(option: Option) -> TraitType[Any, Any]:
    """Return the trait of an option."""
    help_text = f"{option.help} ({', '.join(option.flags)})"
    # As a dict, because the overloads of the traits accept only a literal True or False.
    common: dict[str, Any] = {"help": help_text, "allow_none": option.default is None}
    if option.choices:
        return Enum(option.choices, option.default, **common)
    match option.kind:
        case "int":
            return Int(option.default, min=1, **common)
        case "number":
            return Float(option.default, min=0, **common)
        case "switch":
            return Bool(option.default, help=help_text)
        case "list":
            return List(Unicode(), help=help_text)
    return Unicode(option.default, **common)


def _read(trait: TraitType[Any, Any], text: str) -> Any:
    """Return the value of a variable of the environment; a single word is a list of one."""
    if isinstance(trait, List) and not text.lstrip().startswith("["):
        return [text]
    if isinstance(trait, Dict):
        # Dict.from_string does the same, but warns that this form is deprecated on command lines.
        return ast.literal_eval(text)
    return trait.from_string(text)


def _wanted(trait: TraitType[Any, Any]) -> str:
    """Return a description of the values that a variable of the environment can have."""
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
    return "different text"


class Nbchat(Configurable):
    """The settings of nbchat: the options of the table, and the settings below, which have no flag."""

    endpoints = Dict(
        help="more endpoints: a name, and its base URL, a Transport, or a dict with base_url, api_key_env (the "
        "variable that holds the key), headers and model; ${NAME} in a header is a variable"
    ).tag(config=True)
    idle_timeout = Float(120.0, help="seconds without new content after which an answer is given up").tag(config=True)
    max_retries = Int(2, min=0, help="retries before the first event of an answer").tag(config=True)
    local_model = Unicode(
        None, allow_none=True, help="the GGUF file of --endpoint local; by default the built-in model"
    ).tag(config=True)

    prices = Dict(
        help="prices that genai-prices does not have: {model: {'input': …, 'output': …}}, "
        "in US dollars per million tokens"
    ).tag(config=True)
    cassette = Unicode(
        None, allow_none=True, help="the cassette that every session starts with (%nbchat cassette)"
    ).tag(config=True)
    cassette_mode = Unicode(None, allow_none=True, help="auto, replay, record or off; overrides --mode").tag(
        config=True
    )
    user = Unicode("", help="the user in telemetry; by default JupyterHub's user, and for Langfuse the login name").tag(
        config=True
    )
    ledger = Bool(True, help="write usage into the ledger").tag(config=True)
    footer = Bool(False, help="show tokens and cost in a line below each answer").tag(config=True)
    journal = Bool(True, help="keep answers on disk while they arrive").tag(config=True)
    row_spans = Bool(False, help="make a span for each request of ask_each, too").tag(config=True)
    echo = Unicode(None, allow_none=True, help="a file that receives the text of every answer as it arrives").tag(
        config=True
    )

    # traitlets looks for traits in the namespace of the class, so the options are added while the class is built.
    locals().update({option.name: _trait(option).tag(config=True) for option in OPTIONS if option.setting})

    def __init__(self, environment: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        """Read the configuration file and the environment.

        Args:
            environment: the variables; None for those of this process.
            **kwargs: as for traitlets' Configurable: ``parent`` or ``config`` has the configuration file.

        Raises:
            OptionError: a variable has a value that does not fit its setting.
            TraitError: a value in the configuration file does not fit its setting.
        """
        super().__init__(**kwargs)
        #: The source of each value that is not a default.
        self.sources: dict[str, str] = {}
        for name in self.class_trait_names(config=True):
            if name in self._config_keys():
                self.sources[name] = "configuration file"
        # After the file, because a variable wins over the file. Observed only from now on, so that every later
        # change is one by %config.
        self._read_environment(os.environ if environment is None else environment)
        self.observe(self._note_change, names=self.class_trait_names(config=True))

    def settings(self) -> dict[str, Any]:
        """Return all values by name; lists become tuples, as options have them."""
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
            # An empty variable is one that is not set, as in most programs.
            if not (text := environment.get(variable, "")):
                continue
            try:
                setattr(self, name, _read(trait, text))
            except (TraitError, ValueError, SyntaxError):
                # A dict may contain keys, and nobody knows where in a text that is not a dict.
                quoted = "" if isinstance(trait, Dict) else f"={mask(text)}"
                raise OptionError(
                    f"{variable}{quoted}: it should be {_wanted(trait)}", f"{variable}: {trait.help}."
                ) from None
            self.sources[name] = variable
        for variable in environment:
            prefix, _, name = variable.partition("NBCHAT_")
            if not prefix and name.lower() not in traits:
                _warn_of_typo(variable, name.lower(), traits)

    def update_config(self, config: Any) -> None:
        """Apply ``%config Nbchat.NAME = …``.

        Raises:
            OptionError: the setting is unknown; the hint is the nearest name. Or its value does not fit. IPython
                shows the error.
        """
        self.check(config.get("Nbchat", {}))
        try:
            super().update_config(config)
        except TraitError as error:
            failure = OptionError(f"%config: {error}", "%nbchat config lists the settings.")
        else:
            return
        # Raised outside the handler: the message of traitlets quotes the value, and an OptionError has no keys.
        raise failure

    def check(self, keys: Mapping[str, Any]) -> None:
        """Raise OptionError if a key is not the name of a setting; the hint is the nearest name."""
        for key in keys:
            if key not in self.class_trait_names(config=True):
                raise OptionError(
                    f"Nbchat.{key}: unknown setting",
                    nearest(key, self.class_trait_names(config=True)) or "%nbchat config lists them.",
                )


def _warn_of_typo(variable: str, name: str, traits: Mapping[str, Any]) -> None:
    """Warn if the name in a variable of the environment is almost the name of a setting."""
    for similar in difflib.get_close_matches(name, traits, n=1, cutoff=TYPO_SIMILARITY):
        text = f"nbchat: {variable} is not a setting and was ignored. Did you mean NBCHAT_{similar.upper()}?"
        # "nbchat" as the file name, because the line of this module would tell the user nothing.
        warnings.warn_explicit(visible(text), RuntimeWarning, "nbchat", 1)
