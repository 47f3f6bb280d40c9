"""What the tests of all folders share."""

from __future__ import annotations

import json
import subprocess
import sys

import launching
import pytest

from solidqmmm.runtime import environment_for_subprocess


@pytest.fixture(scope="session")
def on_ranks():
    """Runs Python on its own, or on several MPI ranks; gives the JSON that it prints last.

    on_ranks(script, *arguments, ranks=2) skips the test where this environment has no mpiexec.
    """

    def run(*arguments, ranks=1, timeout=300):
        done = subprocess.run(
            launching.on_ranks(ranks, sys.executable, *arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment_for_subprocess(),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said = done.stdout.strip().splitlines()
        return json.loads(said[-1]) if said else None

    return run


@pytest.fixture
def call(capfd):
    """Runs a command of the command line in this process; the exit code, and what it said."""
    from solidqmmm import cli

    def called(*arguments):
        with pytest.raises(SystemExit) as leaving:
            cli.main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return leaving.value.code, said.out, said.err

    return called
