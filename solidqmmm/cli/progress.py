"""What is seen of a run while it goes on: its steps with the time left, and every independent task by name and state.

On a terminal this is one view that renews itself; elsewhere plain lines, one now and then and one for each failure.
"""

from __future__ import annotations

import shutil
import sys
import time

import typer

QUIET_SECONDS = 30.0  # between lines of progress where there is no terminal
_MOST_ROWS = 8  # tasks by name on a terminal; the others are counted
_BAR = 24


class Progress:
    """The `progress` callback of recipes, and the watcher of their tasks; a context manager.

    Args:
        label: Said before the first message.
        show: False on all ranks but the first.
        every_task: Whether each task that begins or ends gets a line of its own where there is no terminal.
    """

    def __init__(self, label: str, *, show: bool = True, every_task: bool = False):
        self.label, self.show, self.every_task = label, show, every_task
        self.done, self.total, self.message = None, None, ""
        self.tasks: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self._live = self._watching = None
        self._begin = self._last = time.monotonic()

    def __call__(self, done: int | None, total: int | None, message: str) -> None:
        """`done` of `total` steps (None: nobody knows) are finished; `message` says what goes on."""
        self.done, self.total, self.message = done, total, message
        if self.show and not self._on_terminal():
            self._now_and_then()

    def task(self, name: str, state: str) -> None:
        """A task is in a state of `procedures.parallel.task_states`."""
        self.tasks[name] = state
        self._since[name] = time.monotonic()
        if not self.show or (self._on_terminal() and state != "failed"):
            return
        if state == "failed" or (self.every_task and state != "waiting"):
            typer.echo(f"  task {name}: {state} ({self.counted()})", err=True)
        elif state != "waiting":
            self._now_and_then()

    def counted(self) -> str:
        """Such as '3 done, 2 running, 7 waiting'."""
        states = list(self.tasks.values())
        order = ("done", "on record", "running", "waiting", "failed")
        return ", ".join(f"{states.count(state)} {state}" for state in order if state in states)

    def lines(self, width: int = 100) -> list[str]:
        """The view on a terminal so many characters wide."""
        found = [self._headline()]
        if self.tasks:
            now = time.monotonic()
            shown = [name for state in ("failed", "running") for name, s in self.tasks.items() if s == state]
            for name in shown[:_MOST_ROWS]:
                state = self.tasks[name]
                took = f"  {duration(now - self._since[name])}" if state == "running" else ""
                found.append(f"  {state:<9}  {name}{took}")
            more = len(shown) - _MOST_ROWS
            found += [f"  and {more} more"] if more > 0 else []
            found.append(f"  tasks: {self.counted()}")
        return [line if len(line) <= width else line[: width - 1] + "…" for line in found]

    # --- a terminal -------------------------------------------------------------------------------------------

    def _on_terminal(self) -> bool:
        if not sys.stderr.isatty():
            return False
        if self._live is None:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            def drawn():
                return Text("\n".join(self.lines(shutil.get_terminal_size().columns)), no_wrap=True)

            console = Console(stderr=True, highlight=False)
            self._live = Live(console=console, get_renderable=drawn, refresh_per_second=4, transient=True)
            self._live.start()
        return True

    def _headline(self) -> str:
        words = f"{self.label}: {self.message}" if self.message else self.label
        if not self.total or self.done is None:
            return words if self.done is None else f"{words}  {self.done}"
        filled = int(_BAR * min(1.0, self.done / self.total))
        return (
            f"[{'#' * filled}{'.' * (_BAR - filled)}] {self.done} of {self.total}{self._time_left()}  {words}"
        )

    # --- lines ------------------------------------------------------------------------------------------------

    def _now_and_then(self):
        if time.monotonic() - self._last < QUIET_SECONDS:
            return
        self._last = time.monotonic()
        step = (
            "" if self.done is None else f"{self.done} of {self.total}: " if self.total else f"{self.done}: "
        )
        running = [name for name, state in self.tasks.items() if state == "running"][:3]
        said = [f"{step}{self.message}{self._time_left()}"] if step or self.message else []
        said += [f"tasks: {self.counted()}"] if self.tasks else []
        named = f" ({'; '.join(running)})" if running else ""
        typer.echo(f"  {'; '.join(said)}{named}", err=True)

    def _time_left(self) -> str:
        if not self.total or not self.done:
            return ""
        seconds = (time.monotonic() - self._begin) * (self.total - self.done) / self.done
        return f", about {duration(seconds)} left"

    # --- life -------------------------------------------------------------------------------------------------

    def close(self):
        """Gives the terminal back."""
        if self._live is not None:
            self._live.stop()

    def __enter__(self):
        _open.append(self)
        from solidqmmm.procedures.parallel.task_states import watched

        self._watching = watched(self.task)
        self._watching.__enter__()
        return self

    def __exit__(self, *exc_info):
        self._watching.__exit__(*exc_info)
        self.close()
        _open.remove(self)


_open: list[Progress] = []


def close_all():
    """Gives the terminal back, for ways out that pass by `__exit__`."""
    for progress in tuple(_open):
        progress.close()


def duration(seconds: float) -> str:
    """'42 s', '3 min', '2.5 h' or '4.0 days'."""
    for unit, length in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
