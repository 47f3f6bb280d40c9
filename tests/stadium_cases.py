"""Silicon bars with a stadium: waves that run into it, and equilibrium."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase.build import bulk
from ase.units import kB

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.elastic.sound_waves import sound_speeds
from solidqmmm.physics.stadium import box_damping, wave_reflection
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.stadium_thermostat import Stadium
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", "Si")
A = 5.430950
MASS = 28.0855 * 1.0364269e-4  # eV ps^2/angstrom^2


def bar(cells, across=1) -> Crystal:
    """Silicon, periodic on all sides, long along x."""
    return Crystal.of(bulk("Si", a=A, cubic=True) * (cells, across, across))


def at_the_ends(crystal, width, gamma_max):
    """Damping at both ends of the cell along x."""
    return box_damping(crystal.positions, width=width, gamma_max=gamma_max, faces=("x-", "x+"))


class WaveInABar:
    """A packet of waves along x in a crystal whose planes across x are all alike, a chain; T = 0.

    The end of the bar is a slab of frozen atoms behind the stadium. The velocities belong to the wave that runs towards the
    stadium, by the dispersion of the planes from LAMMPS's own forces.

    Args:
        crystal: Periodic on all sides.
        potential: Its potential.
        spacing: Distance of the planes in angstrom.
        polarization: Direction of the displacements, 0 to 2.
    """

    def __init__(self, crystal, potential, spacing, polarization=0):
        self.crystal, self.potential, self.spacing, self.axis = crystal, potential, spacing, polarization
        self.n = round(crystal.cell[0, 0] / spacing)
        self.plane = np.rint(crystal.positions[:, 0] / spacing).astype(int)
        self.frozen = np.flatnonzero(self.plane < 8)
        self.mass = potential.masses()[0] * 1.0364269e-4
        reach = np.arange(-8, 9)
        x = crystal.positions.copy()
        x[self.plane == self.n // 2, self.axis] += 1e-4
        with QMMM(crystal, potential) as qmmm:
            qmmm.host.set_positions(x)
            f = qmmm.forces()[:, self.axis]
        springs = -np.array([f[self.plane == self.n // 2 + m].mean() for m in reach]) / 1e-4
        self.omega = lambda k: np.sqrt(
            np.maximum(np.cos(np.multiply.outer(k * spacing, reach)) @ springs, 0) / self.mass
        )
        self.speed = self.omega(np.array([1e-3]))[0] / 1e-3

    def damping(self, choice):
        """Damping of the atoms: a `SuggestedStadium` at the upper end of x."""
        ends = {"low": (0, 0, 0), "high": ((self.n - 1) * self.spacing, 1e3, 1e3)}
        x = self.crystal.positions
        return box_damping(x, width=choice.width, gamma_max=choice.gamma_max, faces=["x+"], **ends)

    def reflected(self, frequency_THz, thermostat, choice, *, sigma=30.0, amplitude=0.01, levels=16):
        """Energy left when the packet would be back where it started, over what it had; and that of the chain.

        Transverse waves want a small amplitude: in second order they drive longitudinal ones.
        """
        k = np.linspace(1e-4, np.pi / self.spacing, 20000)
        at = int(np.argmin(np.abs(self.omega(k) - 2 * np.pi * frequency_THz)))
        way = 4.5 * sigma + choice.width
        x = np.arange(self.n) * self.spacing - (self.n * self.spacing - way)
        wave = amplitude * np.exp(-(x**2) / (2 * sigma**2) + 1j * k[at] * x)
        spectrum, all_k = np.fft.fft(wave), 2 * np.pi * np.fft.fftfreq(self.n, self.spacing)
        omega = self.omega(np.abs(all_k))
        positions, velocities = self.crystal.positions.copy(), np.zeros((len(self.crystal), 3))
        positions[:, self.axis] += wave.real[self.plane]
        velocities[:, self.axis] = np.fft.ifft(-1j * omega * spectrum).real[self.plane]
        positions[self.frozen], velocities[self.frozen] = self.crystal.positions[self.frozen], 0
        group_velocity = (self.omega(k)[at + 1] - self.omega(k)[at]) / (k[1] - k[0])
        partition = Partition(np.zeros(len(self.crystal), dtype=np.int8)).with_frozen(self.frozen)
        with QMMM(self.crystal, self.potential, partition=partition) as qmmm:
            rest = qmmm.energy()
            qmmm.host.set_positions(positions)
            qmmm.host.set_velocities(velocities)
            steps = int(2.1 * way / group_velocity / 0.002)
            run = run_dynamics(qmmm, steps=steps, timestep_fs=2.0, every=steps, thermostat=thermostat)
        energy = run.total_energy_eV - rest
        inside = (all_k > 1e-9) & (omega < 0.99 * 2 * self.speed / self.spacing)
        weight = (omega * np.abs(spectrum))[inside] ** 2
        chain = wave_reflection(
            omega[inside] / (2 * np.pi), speed=self.speed, spacing=self.spacing, width=choice.width,
            gamma_max=choice.gamma_max, levels=levels,
        )  # fmt: skip
        return energy[-1] / energy[0], weight @ chain / weight.sum()


def silicon_speed() -> float:
    """Of longitudinal waves along [100] in angstrom/ps, by the elastic constants of Stillinger and Weber's silicon."""
    C = np.zeros((6, 6))
    C[:3, :3], C[range(3), range(3)], C[range(3, 6), range(3, 6)] = 76.4221, 151.4244, 56.4493
    return sound_speeds(C, 8 * 28.0855 / A**3, [1, 0, 0])[0].max()


def wave_in_silicon(cells=80) -> WaveInABar:
    """Longitudinal along [100], where all planes are alike."""
    return WaveInABar(bar(cells), SW, A / 4)


def wave_in_copper(polarization) -> WaveInABar:
    """Along [100] in an embedded-atom crystal of fcc copper."""
    crystal = Crystal.of(bulk("Cu", a=3.615, cubic=True) * (100, 1, 1))
    return WaveInABar(
        crystal, Potential("eam/alloy", "* * Cu_mishin1.eam.alloy Cu", "Cu"), 3.615 / 2, polarization
    )


@dataclass
class Watch:
    """Callback: kinetic energies in K of groups of atoms, momentum of all, place of the stadium's centre of mass."""

    labels: np.ndarray
    damped: np.ndarray
    after: int
    every: int = 5
    layers: list = field(default_factory=list)
    momenta: list = field(default_factory=list)
    centres: list = field(default_factory=list)

    def __call__(self, step, qmmm):
        v = qmmm.host.velocities()
        self.centres.append(qmmm.host.positions()[self.damped].mean(axis=0))
        if step >= self.after:
            energy = MASS * (v**2).sum(axis=1)
            self.layers.append(np.bincount(self.labels, energy) / (3 * np.bincount(self.labels) * kB))
            self.momenta.append(v.sum(axis=0))


def equilibrium(crystal, gammas, *, width, steps, T, seed=7, warm_up=3000) -> Watch:
    """A run with a stadium from canonical equilibrium, which plain Langevin dynamics of the whole crystal makes.

    The stadium alone would need long for it: waves of hardly any group velocity take many picoseconds to get there.
    """
    labels = (crystal.positions[:, 0] / width).astype(int)
    watch = Watch(labels, gammas > 0, after=1)
    with QMMM(crystal, SW) as qmmm:
        run_dynamics(
            qmmm, steps=warm_up, timestep_fs=1.0, initial_temperature_K=2 * T, every=warm_up, seed=seed,
            ensemble="langevin", temperature_K=T, damping_fs=200.0,
        )  # fmt: skip
        run_dynamics(
            qmmm, steps=steps, timestep_fs=1.0, every=watch.every, seed=seed, thermostat=Stadium(T, gammas),
            callbacks=[watch],
        )  # fmt: skip
    return watch
