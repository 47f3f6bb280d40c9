"""Run on several MPI ranks by test_ionic_hosts: a host with excluded atoms does the same on any number of them."""

from __future__ import annotations

import json
import sys

import numpy as np
from ionic_cases import magnesia, rigid_ions

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.runtime import world

crystal = magnesia()
with LammpsHost(crystal, rigid_ions(), excluded=[0, 1, 5, 40]) as host:
    said = [host.energy(), host.excluded_pair_energy(), float(host.charges().sum())]
    said += [*host.forces()[:6].ravel(), *host.virial().ravel()]
    host.minimize(fmax=0.05)
    host.set_cell(crystal.cell * 1.01)
    said += [host.energy(), host.excluded_pair_energy(), np.abs(host.forces()).max()]
if world().rank == 0:
    print(json.dumps(said))
    sys.stdout.flush()
