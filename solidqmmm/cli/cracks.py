"""`solidqmmm cracks`: runs of the recipe fracture in one figure, and as animations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solidqmmm.cli import show
from solidqmmm.errors import StudyError


def cracks(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of finished runs of the recipe fracture.")],
    animate: Annotated[bool, typer.Option("--animate", help="An animated GIF of each trajectory as well.")] = False,
    window: Annotated[
        float | None, typer.Option("--window", metavar="A", help="Animation: half width around the tip, angstrom.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the figures.")] = Path("."),
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="-v: more words; -vv: tracebacks too.")] = 0,
):
    """Draw the tips of several cracks together: side by side under the same load, or against K with the loads of trapping.

    Dynamic runs of more than one folder are drawn side by side, each with the load from which its tip runs.

    Example: solidqmmm cracks host quantum --out together --animate
    """
    show.set_verbosity(verbose)
    from solidqmmm.plotting.fracture import model_name, plot_tip, plot_tips_side_by_side
    from solidqmmm.plotting.style import save_figure
    from solidqmmm.results.base import Result
    from solidqmmm.results.fracture import FractureResult

    results = {}
    for folder in runs:
        if not (folder / "result.json").is_file():
            raise StudyError(f"{folder} holds no result.json: expected the folder of a finished run")
        result = Result.load(folder)
        if not isinstance(result, FractureResult):
            raise StudyError(f"{folder} holds a {type(result).__name__}: expected a run of the recipe `fracture`")
        results[folder] = result
    modes = {result.mode for result in results.values()}
    if len(modes) > 1:
        raise StudyError("dynamic and quasi-static runs have no axis in common: draw them apart")
    found = list(results.values())
    together = modes == {"dynamic"} and len(found) > 1
    drawn = plot_tips_side_by_side(*found) if together else plot_tip(*found)
    show.table([(str(folder), model_name(result), _said(result)) for folder, result in results.items()])
    files = save_figure(drawn, out / "tips")
    written = []
    if animate:
        from solidqmmm.plotting.crack_animation import animate_crack

        for folder, result in results.items():
            if result.trajectory_file is None:
                raise StudyError(f"{folder} has no trajectory: animations are of dynamic runs")
            name = folder.resolve().name
            written.append(
                animate_crack(folder / result.trajectory_file, out / f"{name}.gif", tip=result.tip, window=window)
            )
    show.paths([("figures", [path for path in files if path.suffix == ".png"]), ("animations", written)])


def _said(result) -> str:
    if result.mode == "dynamic":
        start = result.critical_load
        return "the tip does not run" if start is None else f"the tip runs from {start['G_J_per_m2']:.3f} J/m2"
    loads = {"K-": result.K_minus_MPa_sqrt_m, "K+": result.K_plus_MPa_sqrt_m}
    said = (f"no {name}" if load is None else f"{name} {load:.4f} MPa sqrt(m)" for name, load in loads.items())
    return ", ".join(said)
