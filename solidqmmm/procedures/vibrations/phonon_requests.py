"""What no crystal's phonons can give is refused before anything expensive is computed."""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.displaced_forces import is_long_range
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.errors import RegionError
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.vibrations.host_hessian import force_range


def require_possible(model, *, method: str, infinite_host: bool, isotopes) -> None:
    """Refuses a coupling or a host whose forces have no range, and a host without end where there cannot be one.

    Args:
        model: A `procedures.build.Model` with a host.
        method: Whose modes are listed.
        infinite_host: Whether the modes of the defect in a host without end are wanted.
        isotopes: The `Isotopes`, located.

    Raises:
        ValueError: For an additive coupling; for a long-range potential; for an infinite host that is not periodic, has
            nothing that perturbs it, or is asked for the modes of a condensation.
        RegionError: If the supercell is so small that the defect acts upon itself.
    """
    if is_additive(model.study):
        raise ValueError(
            f"phonons with the additive coupling '{model.study.coupling.scheme}' do not exist: every ion of the host feels "
            "the quantum cluster, and not only atoms near it; use coupling: subtractive or force_mixing"
        )
    if is_long_range(model.potential):
        raise ValueError(
            "phonons need a host whose forces have a finite range, but its potential is long-ranged (kspace): use one with "
            "a cutoff, such as coul/dsf or coul/wolf for the charges"
        )
    if not infinite_host:
        return
    if method in ("static", "guyan"):
        raise ValueError(
            f"phonons.method: {method} condenses a finite host, and phonons.host: infinite lists the modes of a host "
            "without end: leave one of the two out (every method's frequencies are in ladder_THz anyway)"
        )
    if not np.asarray(model.crystal.pbc).all():
        raise ValueError(
            "phonons.host: infinite needs a crystal that is periodic in three directions, got "
            f"pbc = {np.asarray(model.crystal.pbc).tolist()}: use host: finite"
        )
    if model.defect is None and not isotopes.named:
        raise ValueError(
            "phonons.host: infinite needs a `defect`, or isotopes on named sites: a perfect crystal has no modes outside "
            "its bands"
        )
    with LammpsHost(model.crystal, model.potential) as host:
        require_room(force_range(host), model.perfect)


def require_room(reach: float, perfect) -> None:
    """Nothing, unless forces that reach so far (angstrom) make a defect act upon its own images in a supercell.

    Raises:
        RegionError: If they do.
    """
    narrowest = perfect.widths.min()
    if 2 * reach >= narrowest:
        raise RegionError(
            f"forces reach {reach:.2f} A, around a supercell that is {narrowest:.2f} A wide: phonons.host: infinite needs "
            f"one wider than {2 * reach:.2f} A, so that the defect does not act upon itself; take a larger `supercell`, or "
            "host: finite"
        )
