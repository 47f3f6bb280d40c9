"""The folder of this module is importable by its tests and by the scripts that they start under mpiexec."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
