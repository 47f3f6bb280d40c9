"""Benchmarks under mpiexec: `python rank_runner.py MODULE FUNCTION [ARGUMENT ...]` is one of the ranks."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys


def on_ranks(module: str, function: str, *arguments: str, ranks: int = 2) -> dict:
    """What a function of a file of this folder finds under mpiexec."""
    from solidqmmm.procedures.doctor import find_mpiexec
    from solidqmmm.runtime import environment_for_subprocess

    done = subprocess.run(
        [find_mpiexec(), "-n", str(ranks), sys.executable, __file__, module, function, *arguments],
        env=environment_for_subprocess(), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main(module, function, *arguments):
    from solidqmmm.runtime import abort_on_uncaught_error, all_ranks

    everybody = all_ranks()
    abort_on_uncaught_error()
    found = getattr(importlib.import_module(module), function)(*arguments)
    if everybody.Get_rank() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
