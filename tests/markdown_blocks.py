"""Code blocks and commands of Markdown pages, with what a page says about those that no test runs.

A comment right before a block, `% not run: REASON` (where pages go through Sphinx) or `<!-- not run: REASON -->`, says why.
Cells of notebooks are what they hold: `%%writefile study.yaml` is YAML, `%%sh` commands, everything else Python.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = tuple(sorted((ROOT / "docs" / "tutorials").glob("*.md")))
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *TUTORIALS)

_EXCUSE = re.compile(r"^(?:% not run: (.+)|<!-- not run: (.+) -->)$")
# First words of the lines of an indented block that is meant for a shell.
_SHELL = {"solidqmmm", "mpiexec", "make", "pip", "python", "python3", "source", ".", "export", "cp", "mkdir", "sbatch"}


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        page: Its file.
        line: Number of its first line.
        language: What follows the fence ("python", "yaml"), or "shell" for indented commands; that of a cell's contents.
        text: Its lines, without indentation and prompt, options and magic of a cell.
        excuse: Why no test runs it, or None.
        file: The file that a cell writes, or "".
        options: Lines of a cell's options.
    """

    page: Path
    line: int
    language: str
    text: str
    excuse: str | None
    file: str = ""
    options: str = ""

    @property
    def where(self) -> str:
        """Page and line."""
        return f"{name_of(self.page)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block; comments, redirections and explanations in columns left out."""
        found = []
        for line in re.sub(r"\\\n\s*", "", self.text).splitlines():
            line = re.split(r"\s+#|\s{2,}|\s+>|\s+\|", line.strip())[0]
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"\w+=.*", words[0]):  # FOO=bar command
                    words = words[1:]
                if words:
                    found.append(words)
        return found


def name_of(page: Path) -> str:
    """A page's path from the folder of the documentation, or README.md."""
    return page.name if page.parent == ROOT else page.relative_to(ROOT / "docs").as_posix()


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found, i = [], 0
    while i < len(lines):
        fence = re.match(r"^(`{3,})(\S*)", lines[i])
        if fence:
            end = next(j for j in range(i + 1, len(lines)) if lines[j].startswith(fence[1]))
            found.append(_block(page, lines, i, fence[2], lines[i + 1 : end]))
            i = end + 1
        elif lines[i].startswith("    ") and (i == 0 or not lines[i - 1].strip() or _EXCUSE.match(lines[i - 1])):
            end = next((j for j in range(i, len(lines)) if not lines[j].startswith("    ")), len(lines))
            inside = [re.sub(r"^\$ ", "", line[4:]) for line in lines[i:end]]
            prompted = lines[i].startswith("    $ ")
            if prompted:  # what follows a command is its output
                inside = [re.sub(r"^\$ ", "", line[4:]) for line in lines[i:end] if line.startswith("    $ ")]
            first = re.sub(r"^(\w+=\S+ )+", "", inside[0]).split()[0]
            if first in _SHELL:
                found.append(_block(page, lines, i, "shell", inside))
            i = end
        else:
            i += 1
    found = [_as_cell(block) if block.language == "{code-cell}" else block for block in found]
    return [block if block.language not in ("bash", "sh") else _as_shell(block) for block in found]


def _block(page, lines, start, language, inside) -> Block:
    before = next((line for line in reversed(lines[:start]) if line.strip()), "")
    excuse = _EXCUSE.match(before)
    return Block(page, start + 1, language, "\n".join(inside) + "\n", excuse and (excuse[1] or excuse[2]))


def _as_cell(block: Block) -> Block:
    found = re.match(r"(---\n.*?\n---\n|(?::.*\n)*)(?:%%(\w+)(?: (\S+))?\n)?(.*)", block.text, re.S)
    options, magic, file, text = found.groups()
    kind = {None: "python", "sh": "shell", "writefile": "yaml" if (file or "").endswith(".yaml") else "text"}[magic]
    return Block(block.page, block.line, kind, text, block.excuse, file or "", options)


def _as_shell(block: Block) -> Block:
    text = "\n".join(line.removeprefix("$ ") for line in block.text.splitlines() if not line.lstrip().startswith("#"))
    return Block(block.page, block.line, "shell", text + "\n", block.excuse)


def of_language(*languages: str) -> list[Block]:
    """All blocks in these languages, of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]
