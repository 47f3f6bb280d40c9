"""The public names of `solidqmmm` with their docstrings: nothing is listed by hand.

    ```{eval-rst}
    .. public-names:: Crystal LammpsHost
    ```

without arguments all names that no other directive of the page has shown.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from importlib.util import find_spec

from sphinx.util.docutils import SphinxDirective

import solidqmmm


class PublicNames(SphinxDirective):
    """autodoc of public names."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        shown = self.env.temp_data.setdefault("public_names_shown", set())
        there = _present()
        names = self.arguments[0].split() if self.arguments else [name for name in there if name not in shown]
        text = []
        for name in names:
            if name not in there:
                raise self.error(f"`{name}` is no public name of solidqmmm")
            shown.add(name)
            kind = "autoclass" if inspect.isclass(getattr(solidqmmm, name)) else "autofunction"
            text.append(f".. {kind}:: solidqmmm.{name}\n" + ("   :members:\n" if kind == "autoclass" else ""))
        return self.parse_text_to_nodes("\n".join(text)) if text else []


def _present() -> list[str]:
    """Public names whose module is there."""
    return [name for name, module in solidqmmm._PUBLIC.items() if find_spec(module) is not None]


def as_rst(app, what, name, obj, options, lines):  # noqa: ARG001 - the signature of sphinx
    """Docstrings are plain text: stars, bars and equations are shown as they are written."""
    text = "\n".join(lines)
    text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", text)
    parts = re.split(r"(``[^`]+``)", text)
    parts = [part if part.startswith("``") else re.sub(r"([*|])", r"\\\1", part) for part in parts]
    lines[:] = _with_literal_blocks("".join(parts)).split("\n")


_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples?):$")


def _with_literal_blocks(text: str) -> str:
    """Indented paragraphs outside of the sections are equations or examples."""
    made, inside = [], False
    for block in text.split("\n\n"):
        first = block.lstrip("\n").split("\n")[0]
        if _SECTION.match(first):
            inside = True
        elif not first.startswith(" "):
            inside = False
        if first.startswith("    ") and not inside:
            block = ".. code-block:: none\n\n" + block.replace("\\*", "*").replace("\\|", "|")
        made.append(block)
    return "\n\n".join(made)


def setup(app):
    # Now, and not by autodoc, which sets typing.TYPE_CHECKING while it imports; pydantic's models do not survive that.
    for name in _present():
        import_module(solidqmmm._PUBLIC[name])
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
