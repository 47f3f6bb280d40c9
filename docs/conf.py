"""How the documentation is built: `make docs`."""

import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# Code cells start LAMMPS in a kernel of their own: one BLAS thread, no window, no debugger's complaint.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
logging.getLogger("asyncio").setLevel(logging.ERROR)

import solidqmmm  # noqa: E402

project = "solidqmmm"
author = "solidqmmm developers"
project_copyright = "solidqmmm developers, MIT licence"
version = release = solidqmmm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "native_math",
    "schemas",
    "modules",
    "public_names",
    "bibliography",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "jupyter_execute"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "solidqmmm"
html_static_path = ["_static"]
html_copy_source = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
default_role = "code"

# Pages with code cells are executed (LAMMPS engines only, a few seconds each); a cell that fails fails the build.
nb_execution_mode = "cache"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings say type, unit and shape
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # an attribute's name may be that of others, too; it is no link to them
