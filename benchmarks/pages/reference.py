"""The reference of the public names as HTML in build/docs, from their docstrings: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pdoc.doc
import pdoc.render

import lrf_optuna
from lrf_optuna.decompositions import registry

LINK = re.compile(r'<a href="#([^"]*)">(.*?)</a>')
"""A link inside the page. Those to members that a class inherits lead nowhere, so only their text stays."""
OUT = Path(__file__).parents[2] / "build" / "docs"


def write_reference(out: Path) -> Path:
    """Write one page with all public names into a folder, and return its path.

    pdoc reads what a module has at once, so names that the package loads when they are first used are there meanwhile.
    """
    names = {name: getattr(lrf_optuna, name) for name in lrf_optuna.__all__}
    vars(lrf_optuna).update(names)
    try:
        module = pdoc.doc.Module(lrf_optuna)
        table = pdoc.doc.Module(registry).get("DECOMPOSITIONS")
        vars(module.get("DECOMPOSITIONS"))["docstring"] = table.docstring if table else ""
        pdoc.render.configure(docformat="markdown", show_source=False, search=False)
        text = pdoc.render.html_module(module, {module.modulename: module})
    finally:
        for name in names:
            del vars(lrf_optuna)[name]
    places = set(re.findall(r'\bid="([^"]*)"', text))
    text = LINK.sub(lambda link: link[0] if link[1] in places else link[2], text)
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    page.write_text(text, encoding="utf-8")
    return page


if __name__ == "__main__":
    print(write_reference(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT))
