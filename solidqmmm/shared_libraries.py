"""Which shared libraries this process has loaded, and which ones a compiled file is going to ask for.

Both are read, nothing is loaded: a question about MPI must not start an MPI.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

# The libraries that hold an MPI of their own: libmpi.so.12, libmpi.so.40, libmpich.so.0, libmpi_abi.so.1 and copies that
# a wheel carries under a hashed name. Open MPI's libmpi_mpifh and libmpi_cxx only forward to its libmpi.
_MPI_NAME = re.compile(r"libmpi(ch|_abi)?(-[0-9a-f]+)?\.so(\.|$)")

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB = 1, 5


def is_mpi_name(name):
    """Whether a file name is that of an MPI library.

    >>> [is_mpi_name(name) for name in ('libmpi.so.12', 'libmpi-0a1b2c.so.12.3', 'libmpi_cxx.so.40', 'libm.so.6')]
    [True, True, False, False]
    """
    return _MPI_NAME.match(name) is not None


def loaded_libraries():
    """Resolved paths of the shared libraries in this process, in order of address; () where the system keeps no /proc."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return ()
    # address, permissions, offset, device, inode, path (which may hold blanks)
    fields = (line.split(maxsplit=5) for line in maps.splitlines())
    names = dict.fromkeys(field[5] for field in fields if len(field) == 6 and ".so" in field[5])
    return tuple(dict.fromkeys(Path(name.removesuffix(" (deleted)")).resolve() for name in names))


def needed_libraries(path):
    """Names (DT_NEEDED) that the dynamic linker will look for when it loads the ELF file `path`; () for other files."""
    with open(path, "rb") as file:
        ident = file.read(16)
        if ident[:4] != b"\x7fELF":
            return ()
        wide, order = ident[4] == 2, "<" if ident[5] == 1 else ">"

        def read(offset, layout):
            file.seek(offset)
            layout = order + layout
            return struct.unpack(layout, file.read(struct.calcsize(layout)))

        table, entry_size, count = _program_headers(read, wide)
        segments = []
        for index in range(count):
            offset = table + index * entry_size
            if wide:  # type, flags, offset, address, physical address, size in file
                kind, _, start, address, _, size = read(offset, "IIQQQQ")
            else:
                kind, start, address, _, size = read(offset, "IIIII")
            segments.append((kind, start, address, size))
        entries = []
        for kind, start, _, size in segments:
            if kind == _PT_DYNAMIC:
                words = read(start, f"{size // (8 if wide else 4)}{'Q' if wide else 'I'}")
                entries = list(zip(words[::2], words[1::2]))
        strings = next((value for tag, value in entries if tag == _DT_STRTAB), None)
        if strings is None:
            return ()
        strings = next(
            start + strings - address
            for kind, start, address, size in segments
            if kind == _PT_LOAD and address <= strings < address + size
        )
        return tuple(_text_at(file, strings + value) for tag, value in entries if tag == _DT_NEEDED)


def _program_headers(read, wide):
    """Offset, entry size and number of the program headers."""
    if wide:
        return *read(32, "Q"), *read(54, "HH")
    return *read(28, "I"), *read(42, "HH")


def _text_at(file, offset):
    file.seek(offset)
    return file.read(4096).split(b"\0", 1)[0].decode(errors="replace")
