"""How much of a large matrix runs: a part of it in each run, and all of it with the variable THOROUGH=1."""

from __future__ import annotations

import os

__all__ = ["THOROUGH"]

THOROUGH = os.environ.get("THOROUGH", "0") not in ("", "0")
