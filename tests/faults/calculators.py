"""An ASE calculator that fails on demand, once: EMT until one call, where it dies, hangs or gives numbers that are none."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT

FOREVER = 600


class Faulty(EMT):
    """EMT in copper.

    Args:
        fault: "dies" (an external program that is killed), "killed" (this process itself), "hangs" (in Python), "program"
            (waits for a program), "library" (in C), "locked" (in C, and no other thread of Python runs), "deaf" (catches
            what is raised in it), "energy", "forces" or "stress", which is then not finite.
        call: At which call.
        marker: File that is made then; where it is, nothing fails any more.
        pause: Seconds that every call takes beside.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, fault: str, call: int, marker: str, pause: float = 0.0):
        super().__init__()
        self.fault, self.call, self.marker, self.pause, self.calls = fault, call, Path(marker), pause, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.pause)
        self.calls += 1
        if self.calls == self.call and not self.marker.exists():
            self.marker.touch()
            self.fail()

    def fail(self):
        sleeping = [sys.executable, "-c", f"import time; time.sleep({FOREVER})"]
        if self.fault == "dies":
            subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], check=True)
        elif self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "hangs":
            time.sleep(FOREVER)
        elif self.fault == "program":
            program = subprocess.Popen(sleeping)
            self.marker.write_text(str(program.pid))
            program.wait()
        elif self.fault in ("library", "locked"):
            library = (ctypes.CDLL if self.fault == "library" else ctypes.PyDLL)(None)
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):  # no signal ends the second
                library.pthread_mutex_lock(mutex)
        elif self.fault == "deaf":
            while True:
                try:
                    time.sleep(FOREVER)
                except Exception:
                    continue
        else:
            self.results[self.fault] = np.full_like(self.results[self.fault], np.nan)
            if self.fault == "energy":
                self.results["free_energy"] = np.nan
