"""Modules of a room with all that is public in them, from their docstrings: no list is kept by hand.

    ```{eval-rst}
    .. modules:: solidqmmm.physics.electrostatics
    ```

Every file of the folder is a section of its own; rooms within it are not shown. Modules that need an engine which is not
installed are named, and left out.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Modules(SphinxDirective):
    """autodoc of the modules of a package, or of the modules that are named."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        made = []
        for name in self.arguments[0].split():
            spec = find_spec(name)
            if spec is None:
                raise self.error(f"`{name}` is no module")
            if spec.submodule_search_locations is None:
                made.append(self.section(name))
                continue
            for file in sorted(Path(spec.origin).parent.glob("*.py")):
                if not file.stem.startswith("_"):
                    self.env.note_dependency(str(file))
                    made.append(self.section(f"{name}.{file.stem}"))
        return made

    def section(self, name: str) -> nodes.section:
        short = name.removeprefix("solidqmmm.")
        section = nodes.section(ids=[nodes.make_id(short)], names=[short])
        section += nodes.title("", "", nodes.literal("", short))
        try:
            import_module(name)  # here, and not by autodoc, which sets typing.TYPE_CHECKING while it imports
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("solidqmmm"):
                raise
            section += nodes.paragraph("", f"Needs {error.name}, which was not there when these pages were made.")
            return section
        section += self.parse_text_to_nodes(f".. automodule:: {name}\n   :members:\n")
        return section


def setup(app):
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True}
