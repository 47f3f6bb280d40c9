"""Run on several MPI ranks by test_core_shell: shells do the same on any number of them."""

from __future__ import annotations

import json
import sys

from ionic_cases import magnesia, polarizable

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.runtime import world

potential = polarizable(cutoff=8.0, solver="ewald 1e-6")
with LammpsHost(magnesia(), potential, excluded=[0, 1, 5, 40]) as host:
    said = [host.energy(), host.excluded_pair_energy(), *host.forces()[:6].ravel(), *host.virial().ravel()]
    said += host.shell_positions()[::7].ravel().tolist()
if world().rank == 0:
    print(json.dumps(said))
    sys.stdout.flush()
