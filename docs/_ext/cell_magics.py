"""Cells of a notebook as a reader would type them: a file with its name, commands with a prompt.

    %%writefile study.yaml        becomes a block of YAML under the caption study.yaml, without "Writing study.yaml"
    %%sh                          becomes a console with $ before each command

The kernel executes the magics; only what the page shows is changed.
"""

from __future__ import annotations

from docutils import nodes


def with_prompts(text: str) -> str:
    """A $ before each command; lines that go on after a backslash have none."""
    shown, goes_on = [], False
    for line in text.splitlines():
        shown.append(f"  {line}" if goes_on or not line.strip() else f"$ {line}")
        goes_on = line.endswith("\\")
    return "\n".join(shown)


def _as_file(block, name: str, text: str):
    text = text.rstrip()
    made = nodes.literal_block(text, text, language="yaml" if name.endswith(".yaml") else "text")
    box = nodes.container("", nodes.caption("", "", nodes.literal(text=name)), made, literal_block=True)
    box["classes"].append("literal-block-wrapper")
    box["ids"].append(nodes.make_id(f"file-{name}"))
    block.replace_self(box)


def tidy(app, doctree):  # noqa: ARG001 - the signature of sphinx
    """Changes the inputs of cells, and drops the output of those that only write a file."""
    for cell in list(doctree.findall(lambda node: "cell" in getattr(node, "attributes", {}).get("classes", ()))):
        inside = [part for part in cell.children if "cell_input" in part["classes"]]
        for block in [block for part in inside for block in part.findall(nodes.literal_block)]:
            magic, _, text = block.astext().partition("\n")
            if magic.startswith("%%writefile "):
                _as_file(block, magic.split()[-1], text)
                for part in cell.children[:]:
                    if "cell_output" in part["classes"]:
                        cell.remove(part)
            elif magic.split()[:1] == ["%%sh"]:
                shown = with_prompts(text)
                block.replace_self(nodes.literal_block(shown, shown, language="console"))


def setup(app):
    app.connect("doctree-read", tidy)
    return {"parallel_read_safe": True}
