"""Amounts and tables: one way to write each, for every view."""

from __future__ import annotations

import doctest

import pytest

from nbchat.core import money
from nbchat.view import tables
from nbchat.view.tables import html_table, text_table


@pytest.mark.parametrize("module", [money, tables])
def test_the_examples_in_the_docstrings_are_right(module):
    """Run the doctests."""
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_a_plain_table_without_rows_has_its_head():
    """Each column is as wide as its name."""
    assert text_table(["a", "name"], []) == "a  name"


def test_numbers_are_aligned_to_the_right_and_totals_have_a_line_of_their_own():
    """No line ends in blanks."""
    text = text_table(["name", "n"], [["a", "1"]], totals=[["Total", "100"]], left_columns=1, ruled=True)
    assert text.split("\n") == ["name     n", "──────────", "a        1", "──────────", "Total  100"]


def test_a_row_that_is_too_short_is_an_error():
    """Cells must not move into another column without notice."""
    with pytest.raises(ValueError, match="shorter"):
        text_table(["a", "b"], [["1"]])


def test_html_has_only_the_groups_that_have_rows():
    """No empty head and no empty foot."""
    assert html_table(["<td>1</td>"], line_end="\n") == "<table>\n<tbody>\n<tr><td>1</td></tr>\n</tbody>\n</table>\n"
    whole = html_table(["<td>1</td>"], head="<th>a</th>", caption="<caption>c</caption>", totals=["<td>2</td>"])
    assert whole == (
        "<table><caption>c</caption><thead><tr><th>a</th></tr></thead>"
        "<tbody><tr><td>1</td></tr></tbody><tfoot><tr><td>2</td></tr></tfoot></table>"
    )
