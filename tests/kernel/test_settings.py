"""Settings in a real kernel: the answer of ``%config`` to a typo."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.harness import kernel_of


def test_config_names_the_nearest_setting(tmp_path: Path):
    """Each typo is reported in the cell. A correct value takes effect immediately, and ``%nbchat config`` shows it."""
    with kernel_of(tmp_path) as kernel:
        kernel.run("%load_ext nbchat")
        for _ in range(2):
            cell = kernel.finish(kernel.start("%config Nbchat.modle = 'x'"))
            assert "Nbchat.modle" in cell.everything()
            assert "Did you mean model?" in cell.everything()
        wrong = kernel.finish(kernel.start("%config Nbchat.effort = 'hihg'"))
        assert "hihg" in wrong.everything()
        kernel.run("%config Nbchat.effort = 'high'")
        rows = [line.split() for line in kernel.run("%nbchat config").stdout.splitlines()]
        assert ["effort", "'high'", "%config"] in rows
        assert ["model", "'claude-sonnet-5-5'", "default"] in rows
