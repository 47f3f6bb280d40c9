"""Where the energy of a run goes: what the load puts in, what thermostat and correction do, and what nothing accounts for.

    Delta K + Delta U + Q = W_load + unaccounted,    U = E_MM - W_corr

K is the kinetic energy of mobile atoms, E_MM the host's own potential energy, W_corr the work that the correction has done
along the path (a trapezoid over the steps), Q the heat that the thermostat has taken out. Where the forces of the correction
are no gradient, W_corr is what force mixing adds to the host: it depends on the path, and on a closed one it is what was
made from nothing. `unaccounted` is the error of the integrator and of the trapezoid.
"""

from __future__ import annotations


def host_potential(qmmm) -> float:
    """The host's own potential energy in eV, without what a correction adds."""
    energy = qmmm.host.energy()
    if "correction" in qmmm.host.corrections:
        energy -= qmmm.host.contribution().energy or 0.0
    return energy


def effective_potential(run) -> float:
    """E_MM - W_corr in eV."""
    own = host_potential(run.qmmm)  # evaluates, and the meter with it
    return own + (0.0 if run.meter is None else run.meter.work)


class EnergyLedger:
    """Attendant: rows of the ledger along a run.

    Args:
        load: A `CrackLoad` (anything with `work_eV`), or None.
        every: Steps between rows.

    Attributes:
        rows: One mapping a row: `time_ps` and the terms in eV, all counted from the beginning.
    """

    name = "energy_ledger"

    def __init__(self, load=None, *, every: int = 10):
        self.load, self.every = load, int(every)
        self.rows: list[dict] = []
        self._start: dict | None = None

    def at_start(self, step: int, qmmm):
        """A callback of `run_dynamics`: takes down, at step 0, where the run starts from."""
        if step == 0:
            self._start = {"kinetic": qmmm.host.kinetic_energy(), "potential": host_potential(qmmm)}

    def begin(self, run):
        """Nothing: the first row is that of the first step."""
        del run

    def act(self, step: int, run):
        """Takes a row."""
        del step
        self.take(run)

    def take(self, run):
        """A row at the present step."""
        row = {
            "time_ps": run.time_ps,
            "kinetic_change": run.host.kinetic_energy() - self._start["kinetic"],
            "host_potential_change": host_potential(run.qmmm) - self._start["potential"],
            "load_work": 0.0 if self.load is None else self.load.work_eV,
        }
        row["unaccounted"] = row["kinetic_change"] + row["host_potential_change"] - row["load_work"]
        if run.meter is not None:
            row["correction_work"] = -run.meter.work
            row["unaccounted"] -= row["correction_work"]
        heat = run.heat.work(run.host)
        if heat is not None:
            row["thermostat_out"] = heat
            row["unaccounted"] += heat
        self.rows.append(row)

    def state(self) -> dict:
        """Rows, and the energies that they start from, for a checkpoint."""
        return {"rows": list(self.rows), "start": self._start}

    def restore(self, state: dict):
        """Takes up the state of a checkpoint."""
        self.rows, self._start = list(state["rows"]), state["start"]
