"""The work that one answer may cause: a limit on its formulas and on the colours of its code.

Each formula alone is cheap enough (see :mod:`nbchat.view.html.formula_filter`), but an answer may have
thousands of them, and the browser typesets them all. So all parts of one answer share one budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Budget"]

#: The formulas that one answer may have. MathJax needs nearly 1 ms for the smallest one.
MAX_FORMULAS = 1_000
#: The weight of all formulas of one answer (see :func:`nbchat.view.html.formula_filter.weigh`). MathJax needs
#: about 0.1 ms for 1.
MAX_FORMULA_WEIGHT = 30_000
#: The blocks that may be too slow to colour. After them, no block of the answer is coloured.
MAX_SLOW_BLOCKS = 5


@dataclass
class Budget:
    """What is left for one answer.

    The budget is spent in the order of the text, and depends on nothing but the text. So the live view
    and the final output show the same.
    """

    formulas: int = MAX_FORMULAS
    formula_weight: int = MAX_FORMULA_WEIGHT
    slow_blocks: int = MAX_SLOW_BLOCKS

    def copy(self) -> Budget:
        """Return a budget with the same amounts, which is spent independently."""
        return replace(self)

    def restore(self, earlier: Budget) -> None:
        """Set the amounts to those of an earlier copy."""
        self.__dict__.update(earlier.__dict__)

    def spend_formula(self, weight: int) -> bool:
        """Spend one formula of this weight, and return True; return False if too little is left."""
        if not self.formulas or weight > self.formula_weight:
            return False
        self.formulas -= 1
        self.formula_weight -= weight
        return True
