"""A quantum cluster on disk, in the formats people look at."""

from __future__ import annotations

from pathlib import Path


def write_cluster(model, folder: Path) -> tuple[list[tuple[str, str]], list[Path]]:
    """Writes cluster.xyz (extxyz with region and host index), POSCAR, cluster.cif and cluster.png.

    Args:
        model: What `build_model` returns, with a cluster.
        folder: Made when needed.

    Returns:
        Rows of label and count for a table; the files.
    """
    import ase.io

    from solidqmmm.plotting.cluster import draw_cluster
    from solidqmmm.plotting.style import save_figure
    from solidqmmm.system.whole_file import written_whole

    cluster, atoms = model.cluster, model.cluster.to_atoms()
    files = {"extxyz": folder / "cluster.xyz", "vasp": folder / "POSCAR", "cif": folder / "cluster.cif"}
    boxed = atoms.copy()
    boxed.pbc = True  # POSCAR and CIF know no isolated clusters; the vacuum is in the cell
    boxed.wrap()
    written = {"extxyz": (atoms, {}), "vasp": (boxed, {"sort": True, "direct": True}), "cif": (boxed, {})}
    for kind, (shown, options) in written.items():
        with written_whole(files[kind]) as temporary:
            ase.io.write(temporary, shown, format=kind, **options)
    pictures = save_figure(draw_cluster(cluster, model.crystal), folder / "cluster", formats=("png",))

    electrons = cluster.n_electrons
    n_core = int(cluster.core.sum())
    counts = [
        ("host atoms", str(len(model.crystal))),
        ("core", str(n_core)),
        ("buffer", str(cluster.n_quantum - n_core)),
        ("caps", str(len(cluster.caps))),
        ("electrons", f"{electrons:g} in all" + (", an odd number" if electrons % 2 == 1 else "")),
        ("cluster", atoms.get_chemical_formula()),
        ("cell", " x ".join(f"{length:.1f}" for length in atoms.cell.lengths()) + " A"),
    ]
    return counts, [*files.values(), *pictures]
