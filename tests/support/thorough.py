"""Choose the cases of a large matrix that run: a part by default, all with the variable THOROUGH=1."""

from __future__ import annotations

import os

__all__ = ["THOROUGH"]

THOROUGH = os.environ.get("THOROUGH", "0") not in ("", "0")
