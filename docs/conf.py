"""How the documentation is built: `make docs`."""

import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# Code cells start LAMMPS in a kernel of their own: one BLAS thread, no window, no debugger's complaint; and the commands in
# them are those of this environment.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
# A profile of their own: nobody's start-up files, and no word about sockets on this machine.
profile = Path(__file__).parent / "_build" / "ipython" / "profile_default" / "ipython_kernel_config.py"
profile.parent.mkdir(parents=True, exist_ok=True)
profile.write_text("c.IPKernelApp.log_level = 'ERROR'\n")
os.environ["IPYTHONDIR"] = str(profile.parents[1])
for name in ("asyncio", "traitlets"):
    logging.getLogger(name).setLevel(logging.ERROR)

import nbclient  # noqa: E402

import solidqmmm  # noqa: E402

project = "solidqmmm"
author = "solidqmmm developers"
project_copyright = "solidqmmm developers, MIT licence"
version = release = solidqmmm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "cell_magics",
    "gallery",
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

# Pages with code cells are executed, each in an empty folder (cheap engines only, half a minute at most); a page whose cells
# are as they were is not executed again. A cell that fails fails the build.
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 900  # of a cell, on a machine that has other work
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress of runs that take longer on a busy machine
nbclient.NotebookClient.coalesce_streams = True  # the output of %%sh comes in pieces that end anywhere

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings say type, unit and shape
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # an attribute's name may be that of others, too; it is no link to them
