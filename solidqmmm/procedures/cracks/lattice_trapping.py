"""The loads between which a lattice traps a crack.

A crack follows the load along metastable states (`quasistatic`), until one of them ends:

    K_plus   the load, coming from below, at which the crack opens by a bond,
    K_minus  the load, coming from above, at which it heals by one.

Between the two nothing happens, although the energy would be lower with the tip elsewhere; Griffith's load lies there.

Source: R. Thomson, C. Hsieh and V. Rana, J. Appl. Phys. 42, 3154 (1971).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from solidqmmm.procedures.cracks.quasistatic import MEASURES, QuasistaticCrack, QuasistaticStep, at_boundary


@dataclass(frozen=True)
class TrappingRange:
    """Loads between which the crack neither opens nor heals.

    Attributes:
        K_minus_MPa_sqrt_m, K_plus_MPa_sqrt_m: First loads at which it healed and opened; None if it did not.
        K_minus_reason, K_plus_reason: Why there is none.
        resolution_MPa_sqrt_m: Last increment.
    """

    K_minus_MPa_sqrt_m: float | None
    K_plus_MPa_sqrt_m: float | None
    K_minus_reason: str | None
    K_plus_reason: str | None
    resolution_MPa_sqrt_m: float


@dataclass
class Branch:
    """A search along one direction of the load.

    Attributes:
        K_MPa_sqrt_m: The first load with the wanted event; None if there was none.
        reason: Why there was none.
        steps: The steps of the branch, those of the refinement left out.
    """

    K_MPa_sqrt_m: float | None
    reason: str | None
    steps: list[QuasistaticStep]


def trapping_range(
    crack: QuasistaticCrack,
    *,
    lowest: float = 0.2,
    highest: float = 2.0,
    increment: float = 0.02,
    refinements: int = 2,
) -> TrappingRange:
    """The lattice-trapping range around the load at which the crack was opened.

    Args:
        crack: The live crack, opened at (or near) the Griffith load.
        lowest, highest: Loads at which the search ends, in Griffith's K.
        increment: Step in K, in Griffith's K.
        refinements: How often the step in which something happened is repeated with half the increment.
    """
    unit = crack.system.griffith.K_MPa_sqrt_m
    options = {"measure": "K", "increment": increment * unit, "refinements": refinements}
    raised, lowered = (along(crack, end * unit, **options) for end in (highest, lowest))
    return TrappingRange(
        lowered.K_MPa_sqrt_m,
        raised.K_MPa_sqrt_m,
        lowered.reason,
        raised.reason,
        increment * unit / 2**refinements,
    )


def along(
    crack: QuasistaticCrack,
    end: float,
    *,
    measure: str,
    increment: float,
    refinements: int = 2,
    to_the_end: bool = False,
    last: Callable | None = None,
) -> Branch:
    """Raises or lowers the load of a crack until it opens or heals; the crack is where it was afterwards.

    Args:
        crack: The live crack.
        end: Load at which the search ends: above the present one the crack is to open, below to heal.
        measure: 'K' (MPa sqrt(m)), 'G' (J/m^2) or 'strain'.
        increment: Step in that measure.
        refinements: How often the step in which something happened is repeated with half the increment.
        to_the_end: Whether it goes on after that, up to `end` or until the tip comes to the boundary.
        last: Called at the end of the branch, before the crack is brought back.
    """
    first = crack.steps[-1] if crack.steps else crack.start()
    origin, steps = crack.mark(), []
    value = getattr(origin.load, MEASURES[measure])
    sign = 1 if end > value else -1
    wanted, verb, way = ("opened", "open", "up") if sign > 0 else ("healed", "heal", "down")
    if first.tip is None:
        return Branch(None, f"the crack is closed at {origin.load.K_MPa_sqrt_m:.3f} MPa sqrt(m) already", [])
    found, reason, aside = None, None, ""
    whole = increment
    while crack.stopped is None and sign * (end - value) > 1e-9 * abs(end):
        before, target = crack.mark(), value + sign * min(increment, abs(end - value))
        try:
            step = crack.to(crack.system.load(**{measure: target}))
        except ValueError as error:
            reason = f"{aside}the crack does not {verb} before {error}"
            break
        happened = step.event == wanted or (step.tip is None and wanted == "healed")
        K = step.load.K_MPa_sqrt_m
        if happened and found is None and reason is None:
            if increment > whole / 2**refinements * 1.0001:
                crack.back(before)
                increment /= 2
                continue
            found, increment = K, whole
        elif step.event in ("opened", "healed") and found is None and reason is None:
            reason = f"{aside}at {K:.3f} MPa sqrt(m) the crack {step.event} instead"
        elif step.event == "rearranged" and not aside:
            aside = f"at {K:.3f} MPa sqrt(m) bonds off the crack plane break or form and the tip blunts; "
        steps.append(step)
        value = target
        if not to_the_end and (found is not None or reason is not None):
            break
        if step.tip is None or at_boundary(crack, step):
            break
    if found is None and reason is None:
        K = crack.mark().load.K_MPa_sqrt_m
        reason = f"{aside}the crack does not {verb} {way} to {K:.3f} MPa sqrt(m)"
    if last is not None:
        last()
    crack.back(origin)
    return Branch(found, None if found is not None else reason, steps)
