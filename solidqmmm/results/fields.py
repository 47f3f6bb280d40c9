"""What the fields of results share: read-only arrays, reasons for what is absent, structures fit for JSON."""

from __future__ import annotations

import math

import numpy as np

LARGEST_INLINE_STRUCTURE = 20_000  # atoms; above, pymatgen's dictionary would be tens of megabytes


def set_array(noun, name: str, dtype=float, shape: tuple[int, ...] | None = None) -> None:
    """Field `name` of a frozen `noun` as a read-only array; None stays None.

    Args:
        noun: A frozen dataclass, in its `__post_init__`.
        name: The field.
        dtype: Type of the elements.
        shape: Expected shape, -1 for any length; not checked without one.

    Raises:
        ValueError: If the array has another shape.
    """
    value = getattr(noun, name)
    if value is None:
        return
    value = np.array(value, dtype=dtype)
    if shape is not None:
        if value.size == 0 and -1 in shape:
            value = value.reshape([0 if n == -1 else n for n in shape])
        if value.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, value.shape)):
            raise ValueError(f"`{name}` must have shape {shape} (-1: any length), got {value.shape}")
    value.flags.writeable = False
    object.__setattr__(noun, name, value)


def require_reason(noun, value: str, reason: str, default: str | None = None) -> None:
    """Sees to it that an absent `value` comes with its `reason`, and a present one without.

    Args:
        noun: A frozen dataclass, in its `__post_init__`.
        value: Name of the field that may be None.
        reason: Name of the field that says why.
        default: The reason where none is given; without a default that is an error.

    Raises:
        ValueError: For None without a reason, a value with one, or a number that is not finite.
    """
    given, why = getattr(noun, value), getattr(noun, reason)
    if given is None and why is None:
        if default is None:
            raise ValueError(f"`{value}` is None: say why in `{reason}`")
        object.__setattr__(noun, reason, default)
    if given is not None and why is not None:
        raise ValueError(f"`{reason}` says why there is no `{value}`, but there is one")
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError(f"`{value}` must be finite, or None with a `{reason}`, got {given}")


def same_length(noun, *names: str) -> int:
    """The common length of some fields; those that are None do not count.

    Raises:
        ValueError: If the lengths differ.
    """
    lengths = {name: len(getattr(noun, name)) for name in names if getattr(noun, name) is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"fields of {type(noun).__name__} must have one length, got {lengths}")
    return next(iter(lengths.values()))


def structure_record(crystal, file_name: str) -> dict:
    """A crystal as a result keeps it: pymatgen's dictionary, or from 20,000 atoms on the name of an extxyz
    file.

    Args:
        crystal: The Crystal.
        file_name: Name of the extxyz file in the run folder, which the caller writes.
    """
    if len(crystal) < LARGEST_INLINE_STRUCTURE:
        return crystal.to_structure().as_dict()
    return {"file": str(file_name)}


def or_reason(value: float | None, unit: str, reason: str | None, digits: int = 6) -> str:
    """A number with its unit, or in words why there is none."""
    return f"{value:z.{digits}f} {unit}".strip() if value is not None else f"none ({reason})"


def division_in_words(said: dict) -> str:
    """One line about split ranks, from what `DynamicsResult.split_ranks` holds."""
    calls = said["asked"] - said["missed"]
    words = f"{said['host']} for the host, {said['quantum']} quantum: {said['hits']} of {calls} calls foreseen"
    if said["missed"]:
        words += f", {said['missed']} in vain"
    if "not_foreseen" in said:
        words += f" ({said['not_foreseen']})"
    return words + f"; waited {said['host_waits_s']:.1f} s (host), {said['quantum_waits_s']:.1f} s (quantum)"
