"""What a run of dynamics does about heat: nothing (NVE), a Nose-Hoover chain, Langevin friction and noise, all in LAMMPS.

A thermostat sets its fixes up once (`begin`), starts its random numbers anew at the start and at every checkpoint
(`seed`), and removes what it made (`end`). The group `mobile` and the compute `solidqmmm_T` are there before. Sources: S.
Nose, J. Chem. Phys. 81, 511 (1984); W. G. Hoover, Phys. Rev. A 31, 1695 (1985); T. Schneider and E. Stoll, Phys. Rev. B
17, 1302 (1978).
"""

from __future__ import annotations

from typing import Protocol

MOVE, BARE, NOISE = "solidqmmm_move", "solidqmmm_bare", "solidqmmm_noise"
ENSEMBLES = ("nve", "nvt", "langevin")


class Thermostat(Protocol):
    """What a run asks of its thermostat.

    Attributes:
        ensemble: Its name in results.
        settings: Plain JSON: what must be the same when a run goes on.
        noisy: Whether the forces in LAMMPS contain friction and noise; those without are then in the fix `solidqmmm_bare`.
        restarts: Whether variables of its own start from rest when a run is resumed.

    One that moves atoms by LAMMPS's `fix nve` says `velocity_verlet = True`: the next positions follow from the forces.
    """

    ensemble: str
    settings: dict
    noisy: bool
    restarts: bool

    def begin(self, host) -> None:
        """Makes the integrator's fixes."""
        ...

    def seed(self, host, seed: int) -> None:
        """Starts the random numbers anew, seed in 1..900,000,000."""
        ...

    def work(self, host) -> float | None:
        """Energy in eV that it has taken out of the crystal so far; None where nothing counts it."""
        ...

    def state(self) -> dict:
        """What it needs to go on: plain JSON and arrays."""
        ...

    def restore(self, state: dict) -> None:
        """Takes up a `state`, before `seed`."""
        ...

    def end(self, host) -> None:
        """Removes what it made."""
        ...


class NVE:
    """Newton's equations and nothing else."""

    ensemble, noisy, restarts = "nve", False, False
    velocity_verlet = True

    def __init__(self):
        self.settings = {"ensemble": self.ensemble, "temperature_K": None}

    def begin(self, host):
        """Sets up the integrator of the mobile atoms."""
        host.command(f"fix {MOVE} mobile nve")

    def seed(self, host, seed: int):
        """Nothing: there is no noise."""
        del host, seed

    def work(self, host) -> float | None:
        """None: nothing works on the atoms."""
        del host

    def state(self) -> dict:
        """Empty."""
        return {}

    def restore(self, state: dict):
        """Nothing to take up."""
        pass

    def end(self, host):
        """Takes its fixes off the host."""
        remove(host, NOISE, BARE, MOVE)


class NoseHoover(NVE):
    """A Nose-Hoover chain on all mobile atoms.

    Args:
        temperature_K: Temperature in K.
        damping_fs: Relaxation time in fs.
    """

    ensemble, restarts = "nvt", True
    velocity_verlet = False

    def __init__(self, temperature_K: float, damping_fs: float = 100.0):
        self.temperature_K, self.damping_fs = float(temperature_K), float(damping_fs)
        self.settings = {
            "ensemble": self.ensemble, "temperature_K": self.temperature_K, "damping_fs": self.damping_fs
        }  # fmt: skip

    def begin(self, host):
        """Sets up the integrator with its chain of thermostats."""
        T, damping = self.temperature_K, self._damping(host)
        host.command(f"fix {MOVE} mobile nvt temp {T:.16g} {T:.16g} {damping:.16g}")
        host.command(f"fix_modify {MOVE} temp solidqmmm_T")

    def _damping(self, host) -> float:
        return self.damping_fs * 1e-3 / host.session.scale["time"]


class Langevin(NoseHoover):
    """Friction and noise on all mobile atoms; without frozen atoms the total force of the noise is taken out.

    Args:
        temperature_K: Temperature in K.
        damping_fs: Inverse of the friction in fs.
    """

    ensemble, noisy, restarts = "langevin", True, False
    velocity_verlet = True

    def begin(self, host):
        """Sets up the integrator, and keeps the forces before friction and noise are added, for the trajectory."""
        NVE.begin(self, host)
        # The forces before friction and noise are added, for the trajectory.
        host.command(f"fix {BARE} mobile store/force")

    def seed(self, host, seed: int):
        """Sets up friction and noise anew, with random numbers of this seed."""
        remove(host, NOISE)
        T, zero = self.temperature_K, "no" if len(host.frozen) else "yes"
        host.command(f"fix {NOISE} mobile langevin {T:.16g} {T:.16g} {self._damping(host):.16g} {seed} zero {zero}")


def thermostat(ensemble: str, temperature_K: float | None, damping_fs: float) -> Thermostat:
    """The thermostat of that name.

    Raises:
        ValueError: For an unknown ensemble, or a temperature that is missing or of no use.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"`ensemble` must be one of {ENSEMBLES}, got {ensemble!r}")
    if not damping_fs > 0:
        raise ValueError(f"`damping_fs` must be positive (fs), got {damping_fs}")
    if ensemble == "nve":
        if temperature_K is not None:
            raise ValueError("ensemble 'nve' has no thermostat: give `initial_temperature_K`, or use 'langevin' or 'nvt'")
        return NVE()
    if not (temperature_K or 0) > 0:
        raise ValueError(f"ensemble {ensemble!r} needs a positive `temperature_K` (K), got {temperature_K}")
    return {"nvt": NoseHoover, "langevin": Langevin}[ensemble](temperature_K, damping_fs)


def remove(host, *fixes: str):
    """Removes those of the named fixes that exist."""
    present = host.session.lmp.available_ids("fix")
    for fix in fixes:
        if fix in present:
            host.session.command(f"unfix {fix}")
