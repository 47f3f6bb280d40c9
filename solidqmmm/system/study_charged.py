"""What a study or the command line may say of a charged defect: the dielectric tensor, and the form of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from solidqmmm.physics.charged_defects.size_corrections import dielectric_tensor
from solidqmmm.physics.finite_size import TERMS, SizeModel
from solidqmmm.system.study_sections import Section

_THINNEST = 3.0  # angstrom, of the shell of ions between the two radii


def read_dielectric(value) -> np.ndarray:
    """A dielectric tensor, shape=(3, 3), from a number, three (the diagonal), nine, or a text with these between commas.

    Raises:
        ValueError: For other numbers of values, or a tensor that is not symmetric and positive definite.
    """
    if isinstance(value, str):
        words = value.replace(",", " ").split()
        try:
            value = [float(word) for word in words]
        except ValueError:
            raise ValueError(f"`dielectric` must be a number, three or nine between commas, got {value!r}") from None
        value = value[0] if len(value) == 1 else value
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"`dielectric` must be a number, three, or a 3 x 3 tensor, got {value!r}") from None
    if array.shape == (9,):
        array = array.reshape(3, 3)
    elif array.shape == (3,):
        array = np.diag(array)
    elif array.shape not in ((), (3, 3)):
        raise ValueError(f"`dielectric` must be a number, three (the diagonal) or nine, got {array.size} values")
    return dielectric_tensor(array)


def checked_dielectric(value):
    """The value as it was written, if it is 'auto' or `read_dielectric` takes it."""
    if value != "auto":
        read_dielectric(value)
    return value


@dataclass(frozen=True)
class FitRequest:
    """The form of E(L) that is asked for; without terms the data choose.

    Attributes:
        terms: Powers of 1/L, of 1, 3 and 5; None lets the data choose.
        A: 'fixed' to its prediction, or 'free'.
        B: 'free', or a value in eV angstrom^3.
    """

    terms: tuple[int, ...] | None = None
    A: str = "fixed"
    B: str | float = "free"

    @classmethod
    def read(cls, value) -> FitRequest:
        """From 'auto' or a mapping such as {A: fixed, terms: [1, 3], B: 52.1}.

        Raises:
            ValueError: For anything else, naming the key.
        """
        if isinstance(value, cls):
            return value
        if value in (None, "auto"):
            return cls()
        if not isinstance(value, dict):
            raise ValueError(f"`fit` must be 'auto' or a mapping such as {{A: fixed, terms: [1, 3]}}, got {value!r}")
        unknown = sorted(set(value) - {"A", "B", "terms"})
        if unknown:
            raise ValueError(f"`fit` has the keys A, B and terms, got '{unknown[0]}'")
        A, B, terms = value.get("A", "fixed"), value.get("B", "free"), value.get("terms", [1, 3])
        if A not in ("fixed", "free"):
            raise ValueError(f"`fit.A` must be 'fixed' (to its prediction) or 'free', got {A!r}")
        if B != "free" and (isinstance(B, bool) or not isinstance(B, int | float) or not np.isfinite(B)):
            raise ValueError(f"`fit.B` must be 'free' or a number in eV angstrom^3, got {B!r}")
        whole = isinstance(terms, list | tuple) and terms and all(type(t) is int and t in TERMS for t in terms)
        if not whole or 1 not in terms:
            raise ValueError(f"`fit.terms` must be powers of 1/L, 1 and of 3 and 5, such as [1, 3], got {terms!r}")
        if B != "free" and 3 not in terms:
            raise ValueError("`fit.B` belongs to the term 3, which is not in `fit.terms`")
        return cls(tuple(terms), A, B)

    def model(self, A: float) -> SizeModel:
        """The model, with the predicted A in eV angstrom."""
        return SizeModel(self.terms, A if self.A == "fixed" else None, None if self.B == "free" else float(self.B))


def checked_fit(value):
    """The value as it was written, if `FitRequest.read` takes it."""
    FitRequest.read(value)
    return value


class MottLittletonRequest(Section):
    """Radii of the two regions in a Mott-Littleton calculation.

    Attributes:
        inner_radius_A: Ions nearer than this relax; by default about 450 do, or the shells of 150 whose ions are fixed.
        outer_radius_A: Ions nearer than this respond one by one, farther ones as a medium; by default 8 angstrom more.
    """

    inner_radius_A: Annotated[float, Field(gt=0)] | None = None
    outer_radius_A: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _outer_beyond_inner(self):
        if self.outer_radius_A is not None and (self.inner_radius_A or 0.0) + _THINNEST > self.outer_radius_A:
            raise ValueError(
                f"`outer_radius_A` must be {_THINNEST:g} A or more beyond `inner_radius_A`, which it needs, got "
                f"{self.outer_radius_A:g} and {self.inner_radius_A or 'none'}"
            )
        return self
