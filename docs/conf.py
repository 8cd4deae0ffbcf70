"""The configuration of Sphinx. ``make docs`` builds the site, without a network; a warning is an error."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from IPython.lib.lexers import IPython3Lexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from nbchat.distribution import __version__  # noqa: E402

# Sphinx reads only its own folder, so the notebooks are copied into it. Git ignores the copies.
shutil.copytree(
    ROOT / "notebooks", HERE / "notebooks", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.jsonl", ".*")
)

project = "nbchat"
author = "The nbchat authors"
copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["images/README.md", "**/.ipynb_checkpoints"]

# The notebooks are shown as they were saved.
nb_execution_mode = "off"
# An answer has HTML and Markdown. The HTML is what a front end shows.
nb_mime_priority_overrides = [("html", "text/html", 0)]
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
# A name such as tests/unit/test_x.py in a list is no link.
myst_linkify_fuzzy_links = False

html_theme = "pydata_sphinx_theme"
html_title = f"nbchat {version}"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Sphinx) -> None:
    """Read the examples as IPython does: a cell may begin with ``%%claude``."""
    app.add_lexer("python", IPython3Lexer)
