"""Structures from Materials Project, where mp-api is installed and a key is set."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

from solidqmmm.errors import EnvironmentProblem

KEY_NAME = "MP_API_KEY"


def why_not_available(mp_id: str) -> str | None:
    """What stands in the way of fetching `mp_id`, with the cure; None if nothing does."""
    if not re.fullmatch(r"(mp|mvc)-[0-9a-z]+", mp_id):
        return f"expected a Materials Project id such as 'mp-149', got {mp_id!r}"
    instead = "or download the structure once and give it as {file: ...}, which stays the same"
    if find_spec("mp_api") is None:
        return f"this needs the package mp-api: pip install 'solidqmmm[mp]', {instead}"
    if not os.environ.get(KEY_NAME):
        return f"this needs your Materials Project key in the environment variable {KEY_NAME}, {instead}"
    return None


def fetch_structure(mp_id: str):
    """The pymatgen Structure of a Materials Project id.

    Raises:
        EnvironmentProblem: Without mp-api, without a key, or where the database does not answer.
    """
    reason = why_not_available(mp_id)
    if reason:
        raise EnvironmentProblem(f"structure {{mp_id: {mp_id}}}: {reason}")
    from mp_api.client import MPRester

    try:
        with MPRester(os.environ[KEY_NAME]) as database:
            return database.get_structure_by_material_id(mp_id)
    except Exception as error:
        raise EnvironmentProblem(
            f"Materials Project did not give {mp_id} ({type(error).__name__}: {error}); "
            "check the id and the key, or give the structure as {file: ...}"
        ) from error
