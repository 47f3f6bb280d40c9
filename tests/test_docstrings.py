"""Public names are few, and say what they are: docstrings with shapes, units and errors, as far as a machine can tell."""

from __future__ import annotations

import inspect

import solidqmmm


def test_public_names_are_few_and_documented():
    names = set(solidqmmm.__all__) - {"__version__"}
    assert 15 <= len(names) <= 25
    for name in names:
        found = getattr(solidqmmm, name)
        assert inspect.getdoc(found), name
        assert found.__name__ == name
