"""What a study says of a crack: the sections `crack`, `stadium`, `dynamics` and `saving` of recipes that break crystals."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from solidqmmm.physics.cracks.crack_lattice import three_indices
from solidqmmm.system.study_sections import Section

Mode = Literal["dynamic", "quasistatic"]
_STEPS = {"none": 1, "respa": 3, "lotf": 10}


def _tupled(value):
    return tuple(value) if isinstance(value, list) else value


Positive = Annotated[float, Field(gt=0)]
Loads = Annotated[float, Field(ge=0)] | Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(_tupled), Field(min_length=1)
]  # fmt: skip
Indices = Annotated[tuple[int, ...], BeforeValidator(_tupled), Field(min_length=3, max_length=4)]


class LoadSection(Section):
    """How strongly the crack is loaded, in one measure: a number, or a list.

    In dynamics a list is gone through in order. A quasi-static crack starts at the Griffith load, is raised to the highest
    value of the list and then, from the start again, lowered to the lowest.

    Attributes:
        K: Stress intensity in MPa sqrt(m).
        G: Energy release rate in J/m^2.
        strain: Strain of a strip.
        rate_per_ps: Dynamic: how fast the load goes from one value of the list to the next, in its unit per ps; without it
            each value is set at once.
        hold_ps: Dynamic: time at each value, ps; by default the time of the run in equal parts.
        increment: Quasi-static: largest step between two relaxations, in the unit of the load; by default a fiftieth of the
            Griffith load.
        applied_to: Dynamic: whether an increment displaces all atoms by that of the far field, or the held ones only.
    """

    EXAMPLE: ClassVar[str] = "{K: [0.6, 0.9]}"

    K: Loads | None = None
    G: Loads | None = None
    strain: Loads | None = None
    rate_per_ps: Positive | None = None
    hold_ps: Positive | None = None
    increment: Positive | None = None
    applied_to: Literal["all", "boundary"] = "all"

    @model_validator(mode="after")
    def _one_measure(self):
        if sum(value is not None for value in (self.K, self.G, self.strain)) != 1:
            raise ValueError(
                "exactly one of `K` (MPa sqrt(m)), `G` (J/m^2) and `strain` (of a strip) is expected"
            )
        return self

    @property
    def measure(self) -> str:
        """'K', 'G' or 'strain'."""
        return next(name for name in ("K", "G", "strain") if getattr(self, name) is not None)

    @property
    def values(self) -> tuple[float, ...]:
        """The loads in their order."""
        given = getattr(self, self.measure)
        return given if isinstance(given, tuple) else (given,)


class CrackSection(Section):
    """The crack: geometry, plane and front, and its load.

    Attributes:
        system: A strip between held edges, or a cylinder whose rim follows the K-field.
        plane: Miller indices of the crack plane in the cell of the study, (hkl) or (hkil).
        front: Direction of the crack front in that plane, [uvw] or [uvtw]; the crystal is periodic along it.
        mode: I (opening) or II (in-plane shear).
        load: Its load.
        size_A: Strip: length, height between the held edges, length of the front. Cylinder: diameter, rim included (and the
            front as the third). The front may be left out: one period.
        annulus_A: Width of the held rim or edges; by default twice the range of the potential, at least 8.
        front_repeats: Periods along the front, in place of the third size.
        cut: Which cut between the layers of the crystal, counted from the cheapest (silicon (111): 0 shuffle, 1 glide).
        tip_A: Length of the crack of a strip; a third of the strip by default.
        slit: Lattice planes that are left out behind the tip; by default none in mode I, and in mode II as many as keep the
            flanks apart.
    """

    EXAMPLE: ClassVar[str] = (
        "{system: cylinder, plane: [1, 1, 1], front: [1, -1, 0], load: {K: 0.7}, size_A: [84]}"
    )

    system: Literal["strip", "cylinder"]
    plane: Indices
    front: Indices
    mode: Literal["I", "II"] = "I"
    load: LoadSection
    size_A: Annotated[tuple[Positive, ...], BeforeValidator(_tupled), Field(min_length=1, max_length=3)]
    annulus_A: Positive | None = None
    front_repeats: Annotated[int, Field(ge=1)] | None = None
    cut: int = Field(default=0, ge=0)
    tip_A: Positive | None = None
    slit: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _fits_together(self):
        plane = three_indices(self.plane, "plane", direction=False)
        front = three_indices(self.front, "front", direction=True)
        if np.dot(plane, front) != 0:
            h, u = " ".join(map(str, self.plane)), " ".join(map(str, self.front))
            raise ValueError(
                f"the crack front [{u}] does not lie in the crack plane ({h}): hu + kv + lw must be zero"
            )
        if self.system == "strip" and len(self.size_A) < 2:
            raise ValueError(f"`size_A` of a strip needs its length and its height, got {list(self.size_A)}")
        if self.system == "cylinder" and len(self.size_A) > 1 and self.size_A[1] != self.size_A[0]:
            raise ValueError(
                f"a cylinder has one diameter: the first two of `size_A` must be the same, got {list(self.size_A)}"
            )
        if self.system == "cylinder" and self.load.strain is not None:
            raise ValueError("a cylinder is loaded by `K` or `G`; a strain is the load of a strip")
        if self.system == "cylinder" and self.tip_A is not None:
            raise ValueError("`tip_A` belongs to a strip; the tip of a cylinder is on its axis")
        if len(self.size_A) == 3 and self.front_repeats is not None:
            raise ValueError(
                "give the length of the front as the third of `size_A` or as `front_repeats`, not both"
            )
        return self

    def geometry(self) -> dict:
        """Arguments of `procedures.crack_system.crack_system`."""
        return self.model_dump(exclude={"load"})


class StadiumSection(Section):
    """The thermostat at the boundary that takes up waves; 'auto' finds the value from the host's own speed of sound.

    Attributes:
        width_A: Width of the damped region, from the held atoms inward.
        gamma_max_per_ps: Damping at its outer edge; it falls linearly to zero at the inner edge.
        profile: `linear`, or `uniform` (an abrupt Langevin region, to compare with).
    """

    EXAMPLE: ClassVar[str] = "{width_A: 30, gamma_max_per_ps: auto}"

    width_A: Positive | Literal["auto"] = "auto"
    gamma_max_per_ps: Positive | Literal["auto"] = "auto"
    profile: Literal["linear", "uniform"] = "linear"


def _auto(value):
    return {} if value == "auto" else value


Stadium = Annotated[StadiumSection, BeforeValidator(_auto)]  # `stadium: auto` is all of it


class DynamicsSection(Section):
    """A run of dynamics.

    Attributes:
        temperature_K: At the start, and of the thermostat.
        time_ps: How long it runs.
        timestep_fs: Time step.
    """

    EXAMPLE: ClassVar[str] = "{temperature_K: 300, time_ps: 10, timestep_fs: 1}"

    temperature_K: float = Field(default=300.0, ge=0)
    time_ps: Positive = 10.0
    timestep_fs: Positive = 1.0


class SavingSection(Section):
    """How quantum calls are saved in dynamics.

    Attributes:
        scheme: `none`; `respa` (the correction acts every few steps, as many times as strong); `lotf` (springs fitted to the
            correction, extrapolated and then interpolated).
        steps: Steps from one quantum call to the next: 3 for respa, 10 for lotf by default.
    """

    EXAMPLE: ClassVar[str] = "{scheme: lotf, steps: 10}"

    scheme: Literal["none", "respa", "lotf"] = "none"
    steps: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _usual_steps(cls, given):
        if isinstance(given, dict) and given.get("steps") is None and str(given.get("scheme")) in _STEPS:
            return {**given, "steps": _STEPS[given["scheme"]]}
        return given

    @model_validator(mode="after")
    def _steps_of_a_scheme(self):
        if self.scheme == "none" and self.steps != 1:
            raise ValueError(
                f"`steps` belongs to a saving scheme: give `scheme: respa` or `lotf`, or leave out `steps: {self.steps}`"
            )
        return self
