"""The LaTeX of an answer, for exports of a notebook to LaTeX and PDF."""
