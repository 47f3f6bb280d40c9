"""What holds an instance of LAMMPS, a file or memory, closed at the end of a `with` block."""

from __future__ import annotations

from contextlib import suppress


class Closing:
    """A context manager whose block ends with its own `close()`, which may be called again."""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


class ClosingUnheld(Closing):
    """The same, and closed too when nobody holds it any more: a log that stays open is a warning of Python's."""

    def __del__(self):
        with suppress(Exception):
            self.close()
