"""What a study may say to LAMMPS: the lines of a potential, and nothing that runs programs, reads scripts or writes files.

LAMMPS's input is a language: `shell`, `include`, `python`, `variable`, `print`, `dump`, `write_data` and others do
anything that the user may do, and `$(...)` in any line asks for it. A study is data, so only commands are allowed that shape
the interaction of the atoms; `pair_style` and `pair_coeff` lines are the arguments of their own commands.
"""

from __future__ import annotations

from difflib import get_close_matches

#: Commands that may follow the pair coefficients.
ALLOWED = (
    "kspace_style",
    "kspace_modify",
    "pair_modify",
    "special_bonds",
    "neighbor",
    "neigh_modify",
    "comm_modify",
    "dielectric",
)

# Substitution, continuation, a second command, quoting, comments.
_SPECIAL = "$&;\"'`#\\"
# Words of pair styles that run Python (mliap's models are pickles) or name a file to write.
_NOT_IN_STYLES = ("python", "mliappy", "unified", "out_file")


def require_plain(line: str, key: str) -> str:
    """The line itself.

    Raises:
        ValueError: If LAMMPS would see more in it than plain words, or if it is not one line.
    """
    found = next((character for character in line.strip() if character in _SPECIAL), None)
    if found is not None:
        raise ValueError(
            f"`{key}` may hold plain words only, got {found!r} in {_short(line)}, which LAMMPS would interpret: write the "
            "value itself"
        )
    if any(not character.isprintable() and character != "\t" for character in line.strip()):
        raise ValueError(f"`{key}` must be one line of printable characters each, got {_short(line)}: give a list of lines")
    return line


def require_style(line: str) -> str:
    """The arguments of `pair_style` themselves.

    Raises:
        ValueError: As `require_plain`; for styles that run Python, and for files outside the folder of the run.
    """
    for word in require_plain(line, "pair_style").split():
        parts = word.lower().split("/")
        if any(part in _NOT_IN_STYLES for part in parts):
            raise ValueError(
                f"`pair_style` must not hold '{word}', which runs Python or writes a file: tabulate the potential, or use a "
                "style that LAMMPS evaluates itself"
            )
        if word.startswith(("/", "~")) or ".." in parts:
            raise ValueError(
                f"`pair_style` must not name a file outside the run folder, got '{word}': potential files belong into "
                "`pair_coeff`"
            )
    return line


def require_command(line: str) -> str:
    """A line of `commands` itself.

    Raises:
        ValueError: As `require_plain`; and for a command that is not among `ALLOWED`.
    """
    word = (require_plain(line, "commands").split() or [""])[0]
    if word not in ALLOWED:
        near = get_close_matches(word, ALLOWED, n=1)
        hint = f"did you mean '{near[0]}'? A" if near else "a"
        raise ValueError(
            f"`commands` may hold {', '.join(ALLOWED)}, got {_short(line)}: {hint}nything else is not a part of a "
            "potential, leave it out"
        )
    return line


def _short(line: str) -> str:
    text = repr(line)
    return text if len(text) <= 60 else f"{text[:56]} ..."
