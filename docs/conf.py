"""The configuration of Sphinx. ``make docs`` builds the site, without a network; a warning is an error."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from IPython.lib.lexers import IPython3Lexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from nbchat.distribution import __version__  # noqa: E402

# Sphinx reads only its own folder, so the notebooks and the pages of the root folder are copied into it. Git ignores
# the copies.
shutil.copytree(
    ROOT / "notebooks", HERE / "notebooks", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.jsonl", ".*")
)
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "bench/README.md": "benchmarks.md",
}


def moved(link: re.Match[str]) -> str:
    """Return a link of a page as it is after the move to docs/project/. A link to code becomes its text."""
    text, target = link[1], link[2]
    path, hash_mark, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target) or not path:
        return link[0]
    if path in PAGES:
        return f"[{text}]({PAGES[path]}{hash_mark}{anchor})"
    if path.startswith("docs/"):
        return f"[{text}](../{path.removeprefix('docs/')}{hash_mark}{anchor})"
    return text


(HERE / "project").mkdir(exist_ok=True)
for source, page in PAGES.items():
    content = (ROOT / source).read_text(encoding="utf-8")
    (HERE / "project" / page).write_text(re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", moved, content), encoding="utf-8")

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
# A name such as tests/unit/test_x.py in a list is not a link.
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
