"""Help and completion of the command line: every command shows an example, and every example is one that it takes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs_blocks import command_line, parsed


def commands(group=None, path=()):
    """Every command with the words that lead to it."""
    group = group or command_line()
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_help_has_examples_that_parse(path):
    text = ALL[path].help
    examples = re.findall(r"(?:: |mpiexec -n \d+ )(solidqmmm .+)", text)
    assert f"Example: solidqmmm {' '.join(path)}" in text
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        assert parsed(words[1:]).name == path[-1]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path):
    for parameter in ALL[path].params:
        assert parameter.help, f"{' '.join(path)} {parameter.name}"


def completions(line):
    environment = {
        "PATH": os.environ["PATH"],
        "_SOLIDQMMM_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    program = Path(sys.executable).with_name("solidqmmm")
    done = subprocess.run([program], env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_shells_complete_commands_and_options():
    assert completions("solidqmmm ca") == ["carve"]
    assert set(completions("solidqmmm recipes ")) == {"list", "show", "copy"}
    assert completions("solidqmmm run --dry") == ["--dry-run"]


def test_alone_it_names_every_command(call):
    _, out, _ = call()
    for path in ALL:
        assert f"solidqmmm {' '.join(path)}" in out or path in {("recipes", "copy")}
