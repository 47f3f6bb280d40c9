"""E_inf of a charged defect without cells: the two regions of Mott and Littleton, in the crystal of a host of ions.

Region I grows in three steps. What depends on its radius falls as 1/R1^3
(`physics/charged_defects/mott_littleton`), and the last two say by how much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from solidqmmm.engines.lammps_pair_terms import pair_terms
from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.charged_defects.ionic_crystal import FieldResponse, Ion, IonicCrystal
from solidqmmm.physics.charged_defects.mott_littleton import PointDefect, TwoRegions
from solidqmmm.procedures.charged_defects.host_dielectric import HostResponse, host_response
from solidqmmm.procedures.charged_defects.size_routes import route
from solidqmmm.procedures.records import Records
from solidqmmm.system.charges import site_charges
from solidqmmm.system.study_charged import MottLittletonRequest

# By default region I holds about so many ions (held ions need few), and region IIa is so thick (angstrom).
_INNER_IONS, _OUTER = {"fixed": 150, "relaxed": 450}, 8.0
_STEPS = (0.64, 0.8, 1.0)
_STILL_CHANGING = 0.05  # eV; a route that an extrapolation would change by more does not count
_LARGEST_UNIT = 200  # ions; their force constants are computed one by one
_FORCE, _OFFSET = 2e-3, 1e-4  # eV/angstrom on an ion of the perfect crystal; angstrom between its core and shell
_FMAX = 1e-3  # eV/angstrom


def mott_littleton_route(
    model, charge: float, *, ions: str, asked: MottLittletonRequest | bool | str = "auto", workdir: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> dict:  # fmt: skip
    """The route in the form of `size_routes.route`; without E_inf, and with the reason, where it does not exist.

    Further keys: `inner_radii_A`, `inner_ions`, `energies_eV` (of the growing region I), `outer_radius_A` (of the last),
    `extrapolated_eV` (by 1/R1^3 from the last two), `convergence_eV` (that minus E_inf), and `dielectric`.

    Args:
        model: A `procedures.build.Model`.
        charge: q in e.
        ions: 'fixed' (shells alone respond) or 'relaxed'.
        asked: 'auto' (for a host alone with shells), True, False, or radii.
        workdir: Run folder; finished radii are kept there.
        report: Called with a line for each finished radius.
    """
    why = _why_not(model, asked)
    if why is not None:
        return route(None, reason=why)
    request = asked if isinstance(asked, MottLittletonRequest) else MottLittletonRequest()
    try:
        return _route(model, charge, ions, request, workdir, report or (lambda _: None))
    except (SolidQMMMError, ValueError) as error:
        return route(None, reason=str(error))


def _why_not(model, asked) -> str | None:
    if asked is False:
        return "not asked for"
    if model.engine_alone or model.engine is not None:
        return "needs a host alone, whose ions respond everywhere"
    potential = model.potential
    if not potential.has_coulomb:
        return "needs a host of ions: this one has no charges"
    if not potential.needs_kspace:
        return f"needs the whole Coulomb sum, and pair_style {potential.pair_style} cuts it"
    if asked == "auto" and not potential.shells:
        return "computed by itself for hosts with shells; ask for it with mott_littleton: true"
    if len(model.unit) > _LARGEST_UNIT:
        return f"needs the response of the unit cell, which has {len(model.unit)} atoms, more than {_LARGEST_UNIT}"
    return None


def _route(model, charge: float, ions: str, request: MottLittletonRequest, workdir, report) -> dict:
    response = host_response(model.unit, model.potential, ions=ions == "relaxed")
    if response.max_force > _FORCE or response.shell_offset > _OFFSET:
        raise ValueError(
            f"needs a perfect crystal at rest with shells on their cores: forces are up to {response.max_force:.2g} eV/A, "
            f"shells up to {response.shell_offset:.2g} A off"
        )
    crystal = ionic_crystal(model.unit, model.potential)
    field = field_response(model.unit, model.potential, response)
    defect = point_defect(model)
    inner = request.inner_radius_A or default_inner_radius(crystal, ions)
    outer = request.outer_radius_A or inner + _OUTER
    folder = None if workdir is None else Path(workdir) / "mott_littleton"
    radii, numbers, energies, dielectric = [], [], [], None
    for step in _STEPS:
        regions = TwoRegions(crystal, field, defect, step * inner, step * inner + (outer - inner))
        if abs(regions.charge - charge) > 1e-6:
            raise ValueError(f"the ions leave a charge of {regions.charge:+g} e, asked for is {charge:+g}")
        dielectric = regions.dielectric
        records = Records(folder, _fingerprint(regions, ions))
        found = records.read(f"{step:g}")
        if found is None:
            outcome = regions.relaxed(hold_ions=ions == "fixed", fmax=_FMAX)
            found = {"energy": np.array(outcome.energy), "n_inner": np.array(outcome.n_inner)}
            records.write(f"{step:g}", **found)
        radii.append(step * inner)
        numbers.append(int(found["n_inner"]))
        energies.append(float(found["energy"]))
        report(f"Mott-Littleton, R1 = {radii[-1]:.2f} A, {numbers[-1]} ions: {energies[-1]:.4f} eV")
    limit = extrapolated(radii, energies)
    change = limit - energies[-1]
    reason = None
    if abs(change) > _STILL_CHANGING:
        reason = f"region I is too small: by 1/R^3 the energy still changes by {change:+.3f} eV; raise inner_radius_A"
    return route(energies[-1], counted=reason is None, reason=reason) | {
        "inner_radii_A": radii,
        "inner_ions": numbers,
        "energies_eV": energies,
        "outer_radius_A": float(outer),
        "extrapolated_eV": limit,
        "convergence_eV": change,
        "dielectric": dielectric,
    }


def default_inner_radius(crystal: IonicCrystal, ions: str) -> float:
    """In angstrom, of a sphere with about 450 ions if they relax, 150 if they are held."""
    return float((3 * _INNER_IONS[ions] * crystal.volume / (4 * np.pi * len(crystal))) ** (1 / 3))


def extrapolated(radii, energies) -> float:
    """E at 1/R^3 = 0 in eV, by the line through the last two."""
    (first, last), (before, after) = (float(R) ** -3 for R in radii[-2:]), energies[-2:]
    return float(after - (before - after) / (first - last) * last)


def ionic_crystal(unit, potential) -> IonicCrystal:
    """The crystal of a host as cores and shells with their pair terms.

    Args:
        unit: Its unit cell.
        potential: The host's potential.

    Raises:
        ValueError, EngineError: If the short-ranged part is not a sum over pairs.
    """
    charges = site_charges(unit, potential)
    ions = tuple(_ion(potential, symbol, charge) for symbol, charge in zip(unit.symbols, charges, strict=True))
    return IonicCrystal(unit.cell, unit.positions, ions, pair_terms(potential))


def field_response(unit, potential, response: HostResponse) -> FieldResponse:
    """Displacements of cores and shells of a unit cell in a field."""
    with_shell = {shell.element for shell in potential.shells}
    owner = np.flatnonzero([symbol in with_shell for symbol in unit.symbols])
    shells = np.zeros((len(unit), 3, 3))
    shells[owner] = response.shells
    return FieldResponse(response.atoms, shells)


def point_defect(model) -> PointDefect:
    """The model's defect, as a change of ions at a point."""
    defect, potential = model.defect, model.potential
    added = None
    if defect.kind != "vacancy":
        added = _ion(potential, defect.element, potential.charges[potential.type_of(defect.element) - 1])
    return PointDefect(tuple(defect.position), defect.kind != "interstitial", added)


def _ion(potential, symbol: str, charge: float) -> Ion:
    kind = potential.type_of(symbol) - 1
    for shell in potential.shells:
        if shell.element == symbol:
            place = potential.type_names.index(shell.label)
            return Ion(float(charge) - shell.charge, kind, shell.charge, place, shell.spring, shell.quartic)
    return Ion(float(charge), kind)


def _fingerprint(regions: TwoRegions, ions: str) -> str:
    """Of all that determines the energy."""
    crystal, response = regions.crystal, regions.response
    facts = (crystal.ions, regions.defect, regions.inner_radius, regions.outer_radius, ions)
    said = hashlib.sha256(repr(facts).encode())
    tables = [x for term in crystal.terms.values() for x in (term.distances, term.energies, term.slopes)]
    for array in (crystal.cell, crystal.positions, np.round(response.cores, 6), np.round(response.shells, 6), *tables):
        said.update(np.ascontiguousarray(array).tobytes())
    return said.hexdigest()
