"""Set the print options of libraries to their defaults while values are shown, since a prompt carries data.

A user sets ``np.set_printoptions(precision=2)`` or ``pd.options.display.max_rows`` for the screen. The options would
cut the data of a prompt without a note, and would make another request of the same cell.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["default_print_options"]

#: https://numpy.org/doc/stable/reference/generated/numpy.set_printoptions.html
_NUMPY: dict[str, Any] = {
    "precision": 8,
    "threshold": 1000,
    "edgeitems": 3,
    "linewidth": 75,
    "suppress": False,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "floatmode": "maxprec",
    "legacy": False,
    "formatter": None,
}
#: https://pandas.pydata.org/docs/user_guide/options.html#available-options
_PANDAS: dict[str, Any] = {
    "display.max_rows": 60,
    "display.min_rows": 10,
    "display.max_columns": 20,
    "display.max_colwidth": 50,
    "display.max_seq_items": 100,
    "display.max_categories": 8,
    "display.precision": 6,
    "display.float_format": None,
    "display.chop_threshold": None,
    "display.width": 80,
    "display.large_repr": "truncate",
    "display.show_dimensions": "truncate",
    "display.expand_frame_repr": True,
    "display.multi_sparse": True,
    "display.date_dayfirst": False,
    "display.date_yearfirst": False,
}


#: https://docs.pola.rs/api/python/stable/reference/config.html. None is the default.
_POLARS: dict[str, Any] = {
    "fmt_float": "mixed",
    "float_precision": None,
    "thousands_separator": "",
    "decimal_separator": ".",
    "trim_decimal_zeros": False,
    "fmt_str_lengths": None,
    "fmt_table_cell_list_len": None,
    "tbl_rows": None,
    "tbl_cols": None,
}


@contextlib.contextmanager
def default_print_options() -> Iterator[None]:
    """Set the print options of the libraries that are loaded to their defaults, and restore them at the end."""
    modules: Any = sys.modules
    numpy, pandas, polars = (modules.get(name) for name in ("numpy", "pandas", "polars"))
    # Setting an option of pandas and polars takes much longer than reading one, so only changed options are set.
    with contextlib.ExitStack() as stack:
        # A module that is only half imported does not have these names yet.
        if hasattr(numpy, "printoptions"):
            stack.enter_context(numpy.printoptions(**_NUMPY))
        if hasattr(pandas, "option_context"):
            changed = [(name, value) for name, value in _PANDAS.items() if pandas.get_option(name) != value]
            if changed:
                stack.enter_context(pandas.option_context(*(part for option in changed for part in option)))
        if hasattr(polars, "Config") and _is_changed(polars.Config.state(if_set=True)):
            stack.enter_context(polars.Config(**_POLARS))
        yield


def _is_changed(state: Mapping[str, Any]) -> bool:
    """Return True if a print option of polars is not the default."""
    in_environment = any(name.startswith("POLARS_FMT") for name in state)
    return in_environment or any(state.get(f"set_{name}", value) != value for name, value in _POLARS.items())
