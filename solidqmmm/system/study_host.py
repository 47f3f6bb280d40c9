"""The section `host` of a study: the classical potential in the words of LAMMPS, or a shipped one by its name."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from solidqmmm.system.host_models import host_model
from solidqmmm.system.potential import Potential
from solidqmmm.system.study_sections import Element, Section


def _tupled(value):
    return tuple(value) if isinstance(value, list) else value


def _lines(value):
    return (value,) if isinstance(value, str) else _tupled(value)


class ShellSection(Section):
    """The shells of an element's ions: E = spring d^2 / 2 + quartic d^4 / 24.

    Attributes:
        charge: Charge of the shell in e; the core carries what it lacks to the ion's charge.
        spring: Spring constant in eV/angstrom^2.
        quartic: Quartic constant in eV/angstrom^4.
    """

    EXAMPLE: ClassVar[str] = "{charge: -2.848, spring: 74.92}"

    charge: float
    spring: float = Field(gt=0)
    quartic: float = Field(default=0.0, ge=0)


class HostSection(Section):
    """The classical potential, as LAMMPS reads it. `charges` in e by species, or in their order.

    With `model` all other keys have the values of that model, where they are not given beside it.
    """

    EXAMPLE: ClassVar[str] = '{pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}'

    model: str | None = None
    pair_style: str
    pair_coeff: Annotated[tuple[str, ...], BeforeValidator(_lines)]
    species: Annotated[tuple[Element, ...], BeforeValidator(_tupled)] = Field(min_length=1)
    units: Literal["metal", "real"] = "metal"
    atom_style: Literal["atomic", "charge"] | None = None
    charges: dict[str, float] | Annotated[tuple[float, ...], BeforeValidator(_tupled)] | None = None
    net_charge: float = 0.0
    shells: dict[Element, ShellSection] | None = None
    commands: Annotated[tuple[str, ...], BeforeValidator(_tupled)] = ()
    references: Annotated[tuple[str, ...], BeforeValidator(_tupled)] = ()

    @model_validator(mode="before")
    @classmethod
    def _with_model(cls, given):
        if not isinstance(given, dict) or not isinstance(given.get("model"), str):
            return given
        return {**host_model(given["model"]), **given}

    @model_validator(mode="after")
    def _is_a_potential(self):
        self.potential()
        return self

    def potential(self, *search_dirs) -> Potential:
        """The potential, its files looked up in `search_dirs` first."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "model"}
        fields["charges"] = self.charges or ()
        fields["shells"] = {element: shell.model_dump() for element, shell in (self.shells or {}).items()}
        return Potential(**fields, search_dirs=tuple(map(str, search_dirs)))
