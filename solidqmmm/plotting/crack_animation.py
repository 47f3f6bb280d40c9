"""A crack that moves: frames of a trajectory, atoms coloured by region, as an animated GIF."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase.data import covalent_radii
from ase.io import iread
from matplotlib.animation import PillowWriter
from matplotlib.collections import EllipseCollection

from solidqmmm.plotting.style import ACCENT, COLOURS, DOUBLE_COLUMN, ROLES, mixed, style
from solidqmmm.system.whole_file import written_whole

_ATOMS = 60_000  # above, only a window around the tip is drawn
_WINDOW = 120.0  # angstrom, half width of that window


def animate_crack(
    trajectory,
    path,
    *,
    tip=(),
    window: float | None = None,
    most_frames: int = 60,
    frames_per_second: float = 10.0,
) -> Path:
    """Writes an animation of a crack.

    Args:
        trajectory: extxyz file of a run of dynamics, with the column `region`; frames tell their `time_fs`.
        path: The GIF.
        tip: Rows of the tip of the result (`time_ps`, `x_A`, `y_A`, `G_J_per_m2`): the tip is marked, the load named.
        window: Half width of the part around the tip that is shown, angstrom. Without it everything is shown, of very large
            crystals 120 angstrom.
        most_frames: Frames are left out evenly above this number.
        frames_per_second: How fast it is shown.

    Returns:
        The file.

    Raises:
        FileNotFoundError: If there is no trajectory.
        ValueError: If it has no frame.
    """
    import matplotlib.pyplot as plt

    trajectory, path = Path(trajectory), Path(path)
    if not trajectory.exists():
        raise FileNotFoundError(f"{trajectory} does not exist: expected the trajectory of a dynamic run")
    frames = list(iread(trajectory, index=":", format="extxyz"))
    if not frames:
        raise ValueError(f"{trajectory} holds no frame")
    frames = frames[:: -(-len(frames) // most_frames)]
    rows = [row for row in tip if row["x_A"] is not None]
    if window is None and len(frames[0]) > _ATOMS and rows:
        window = _WINDOW
    palette = {role: mixed(COLOURS[role], "white", 0.35 if role == "host" else 0.05) for role in ROLES}
    everything = np.concatenate([frames[0].positions[:, :2], frames[-1].positions[:, :2]])
    low, high = everything.min(axis=0) - 3.0, everything.max(axis=0) + 3.0
    aspect = 1.0 if window is not None else (high[1] - low[1]) / (high[0] - low[0])
    with style(), plt.rc_context({"savefig.bbox": "standard"}):  # frames must be of one size
        width = DOUBLE_COLUMN if aspect < 0.8 else 0.7 * DOUBLE_COLUMN
        figure, ax = plt.subplots(figsize=(width, width * aspect + 0.7), layout="constrained")
        writer = PillowWriter(fps=frames_per_second)
        with TemporaryDirectory() as folder:
            drawn = Path(folder, "frames.gif")
            with writer.saving(figure, str(drawn), dpi=110):
                for frame in frames:
                    ax.clear()
                    _frame(ax, frame, rows, palette, low, high, window)
                    writer.grab_frame()
            with written_whole(path) as temporary:
                temporary.write_bytes(drawn.read_bytes())
        plt.close(figure)
    return path


def _frame(ax, frame, rows, palette, low, high, window):
    time = frame.info.get("time_fs", 0.0) / 1000
    row = min(rows, key=lambda row: abs(row["time_ps"] - time), default=None)
    if window is not None and row is not None:
        centre = np.array([row["x_A"], row["y_A"]])
        low, high = centre - window, centre + window
    xy = frame.positions[:, :2]
    seen = ((xy > low) & (xy < high)).all(axis=1)
    order = np.flatnonzero(seen)[np.argsort(frame.positions[seen, 2], kind="stable")]
    region = frame.arrays["region"][order] if "region" in frame.arrays else np.full(len(order), "host")
    size = (1.8 if window is None else 1.15) * covalent_radii[frame.numbers[order]]
    atoms = EllipseCollection(
        size, size, np.zeros(len(order)), units="x", offsets=xy[order], offset_transform=ax.transData,
        facecolors=[palette[str(role)] for role in region], edgecolors="none",
    )  # fmt: skip
    ax.add_collection(atoms)
    words = f"{time:.2f} ps"
    if row is not None:
        ax.plot(row["x_A"], row["y_A"], marker="+", color=ACCENT, ms=9, mew=1.4, ls="none")
        if "G_J_per_m2" in row:
            words += f", $G$ = {row['G_J_per_m2']:.2f} J/m²"
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="$x$ (Å)", ylabel="$y$ (Å)")
    ax.set_title(words)
