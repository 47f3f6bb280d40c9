"""How gpaw is compiled for solidqmmm: read by gpaw's setup.py through ``GPAW_CONFIG``.

MPI comes from the ``mpich`` wheel and LibXC from the ``pyscf`` wheel of the environment that gpaw is installed into, so
that nothing but a C++ compiler is asked of the system.  Every run-time path is relative to the compiled module
(``site-packages/_gpaw*.so``): an absolute path would die with pip's build environment or when the environment moves.
"""

import shutil
import sys
from pathlib import Path

_XC_PARTS = ("pyscf", "lib", "deps")


def _environment_prefixes():
    """Folders that may hold the wheels: where mpic++ was found (the target), then the interpreter that builds."""
    found = shutil.which("mpic++")
    prefixes = [Path(found).absolute().parent.parent] if found else []
    return [*prefixes, Path(sys.prefix)]


def _libxc_folder():
    """``pyscf/lib/deps`` of the first environment that has both LibXC's header and its library, or None."""
    for prefix in _environment_prefixes():
        for site in sorted(prefix.glob("lib*/python3*/site-packages")):
            deps = site.joinpath(*_XC_PARTS)
            if (deps / "include" / "xc.h").is_file() and (deps / "lib" / "libxc.so").exists():
                return deps
    return None


def _mpi_prefix():
    """The environment whose ``lib`` holds the MPI to link, or None."""
    return next(
        (prefix for prefix in _environment_prefixes() if (prefix / "lib" / "libmpi.so").exists()), None
    )


mpi = True
compiler = "mpic++"
noblas = True  # scipy's OpenBLAS serves gpaw equally fast, and no system BLAS is needed
libraries = []
library_dirs = []
include_dirs = []
runtime_library_dirs = []
extra_link_args = ["-Wl,-rpath,$ORIGIN/../.."]  # lib/libmpi.so.12 of the environment

# Before all others: a distribution's Python adds its own -L folder ahead of what mpic++ appends, and a system Open MPI
# keeps a libmpi.so there.
_prefix = _mpi_prefix()
if _prefix is not None:
    include_dirs += [str(_prefix / "include")]
    library_dirs += [str(_prefix / "lib")]

_deps = _libxc_folder()
if _deps is None:
    nolibxc = True
else:
    nolibxc = False
    libraries += ["xc"]
    include_dirs += [str(_deps / "include")]
    library_dirs += [str(_deps / "lib")]
    extra_link_args += ["-Wl,-rpath,$ORIGIN/" + "/".join((*_XC_PARTS, "lib"))]
