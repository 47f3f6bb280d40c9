"""Stadium damping: the profile, and exact reflection from a damped chain against a table, other ways, and in time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import solve_discrete_lyapunov

from solidqmmm.physics.elastic.sound_waves import sound_speeds
from solidqmmm.physics.heat.damped_chain import chain_reflection, ramp_reflection
from solidqmmm.physics.stadium import (
    best_damping,
    box_damping,
    disc_damping,
    graded,
    linear_ramp,
    strip_damping,
    suggested,
    wave_reflection,
)

OMEGA = (0.1, 0.2, 0.5, 1.0, 1.5, 1.9)
# (gamma_max, planes): reflected energy at OMEGA in the chain k = M = 1 with a fixed end, computed independently.
TABLE = {
    (0.5, 10): (2.204e-1, 1.891e-2, 2.053e-3, 1.370e-3, 2.449e-5, 6.897e-3),
    (0.5, 20): (9.392e-2, 1.801e-2, 3.795e-4, 1.002e-5, 2.465e-5, 1.166e-3),
    (0.5, 40): (4.861e-2, 3.156e-3, 5.082e-5, 5.868e-6, 5.816e-6, 2.345e-4),
    (0.5, 80): (1.573e-2, 5.309e-4, 1.228e-5, 1.457e-6, 1.447e-6, 5.415e-5),
    (1.0, 20): (1.828e-1, 4.950e-2, 1.126e-3, 9.837e-5, 9.597e-5, 6.847e-3),
    (1.0, 40): (1.055e-1, 1.598e-2, 2.225e-4, 2.384e-5, 2.350e-5, 1.166e-3),
}  # fmt: skip

# --- the chain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma_max", "planes"), TABLE)
def test_reflection_of_the_table(gamma_max, planes):
    found = chain_reflection(linear_ramp(gamma_max, planes), OMEGA)
    assert_allclose(found, TABLE[gamma_max, planes], rtol=1e-3)


@pytest.mark.parametrize("end", ["fixed", "free"])
def test_reflection_by_solving_the_whole_chain(end):
    """Any damping, spring and mass: the linear equations of all sites with a wave of amplitude 1 coming in."""
    rng = np.random.default_rng(1)
    gammas, k, M = rng.uniform(0, 2, 12), 3.1, 1.7
    for omega in (0.3, 1.4, 2.5):
        q = 2 * np.arcsin(omega / 2 * np.sqrt(M / k))
        n = len(gammas)
        # Unknowns r, u_1 ... u_n; equations of motion of site 0 (u_0 = 1 + r, u_-1 = e^-iq + r e^iq) and sites 1 to n.
        A, b = np.zeros((n + 1, n + 1), dtype=complex), np.zeros(n + 1, dtype=complex)
        A[0, 0], b[0] = (
            M * omega**2 - 2 * k + k * np.exp(1j * q),
            -(M * omega**2 - 2 * k + k * np.exp(-1j * q)),
        )
        A[0, 1] = A[1, 0] = k
        b[1] = -k
        for i, gamma in enumerate(gammas, start=1):
            A[i, i] = M * omega**2 + 1j * omega * M * gamma - (k if i == n and end == "free" else 2 * k)
            if i < n:
                A[i, i + 1] = A[i + 1, i] = k
        r = np.linalg.solve(A, b)[0]
        assert_allclose(chain_reflection(gammas, omega, k=k, M=M, end=end), abs(r) ** 2, rtol=1e-10)


def test_undamped_ends_reflect_everything_and_a_wide_ramp_what_its_edge_does():
    for end in ("fixed", "free"):
        assert_allclose(chain_reflection(np.zeros(7), OMEGA, end=end), 1.0, rtol=1e-12)
    assert_allclose(chain_reflection([], OMEGA), 1.0, rtol=1e-12)
    omega = np.array([0.3, 0.7, 1.4, 1.9])
    wide = chain_reflection(linear_ramp(0.05, 3000), omega)
    assert_allclose(wide, ramp_reflection(0.05, 3000, omega), rtol=5e-4)
    # In the continuum: (gamma c / 8 W omega^2)^2.
    assert_allclose(ramp_reflection(0.05, 3000, 0.01), (0.05 / (8 * 3000 * 0.01**2)) ** 2, rtol=1e-4)


def test_reflection_depends_on_ratios_only():
    gammas = linear_ramp(0.4, 15)
    plain = chain_reflection(gammas, OMEGA)
    k, M = 7.0, 3.0
    unit = np.sqrt(k / M)
    assert_allclose(chain_reflection(gammas * unit, np.multiply(OMEGA, unit), k=k, M=M), plain, rtol=1e-9)
    both = chain_reflection(np.array([gammas, 2 * gammas]), OMEGA)
    assert both.shape == (2, len(OMEGA))
    assert_allclose(both[0], plain, rtol=1e-14)
    speed, spacing = 60.0, 2.5
    nu = np.array(OMEGA) * speed / spacing / (2 * np.pi)
    found = wave_reflection(
        nu, speed=speed, spacing=spacing, width=15 * spacing, gamma_max=0.4 * speed / spacing
    )
    assert_allclose(found, plain, rtol=1e-9)


def test_no_wave_outside_the_band():
    for omega in (0.0, 2.0, [0.5, 2.1]):
        with pytest.raises(ValueError, match="highest frequency of the chain, 2"):
            chain_reflection([0.1], omega)
    with pytest.raises(ValueError, match="'fixed' or 'free'"):
        chain_reflection([0.1], 1.0, end="open")


def reflected_packet(gammas, omega0, *, sigma=40.0, dt=0.05):
    """Reflected over incident energy of a Gaussian packet in the time domain, and the exact reflection averaged over it."""
    q0 = 2 * np.arcsin(omega0 / 2)
    start = 8 * sigma
    n = int(2 * start) + 1
    site = np.arange(n)
    wave = np.exp(-((site - start) ** 2) / (2 * sigma**2) + 1j * q0 * site)
    q = 2 * np.pi * np.fft.fftfreq(n)
    omega = 2 * np.abs(np.sin(q / 2))
    spectrum = np.fft.fft(wave)
    u = np.concatenate([wave.real, np.zeros(len(gammas))])
    v = np.concatenate([np.fft.ifft(-1j * omega * spectrum).real, np.zeros(len(gammas))])
    inside = q > 1e-9
    weight = (omega**2 * np.abs(spectrum) ** 2)[inside]
    exact = float(weight @ chain_reflection(gammas, omega[inside]) / weight.sum())
    friction = np.concatenate([np.zeros(n), gammas])

    def force(u):
        f = -2 * u
        f[1:] += u[:-1]
        f[:-1] += u[1:]
        return f

    def energy():
        stretch = np.diff(u[:n], prepend=0.0)
        return 0.5 * (v[:n] @ v[:n] + stretch @ stretch)

    incident = energy()
    f = force(u)
    for _ in range(int(2 * start / np.cos(q0 / 2) / dt)):  # to the boundary and back by the group's speed
        v += dt / 2 * f
        v *= (1 - friction * dt / 4) / (1 + friction * dt / 4)
        u += dt * v
        f = force(u)
        v *= (1 - friction * dt / 4) / (1 + friction * dt / 4)
        v += dt / 2 * f
    return energy() / incident, exact


@pytest.mark.parametrize(
    ("gamma_max", "planes", "omega"), [(0.5, 20, 0.2), (0.5, 10, 0.5), (0.5, 20, 0.5), (1.0, 20, 1.0)]
)
def test_a_packet_is_reflected_as_its_waves_are(gamma_max, planes, omega):
    found, exact = reflected_packet(linear_ramp(gamma_max, planes), omega)
    assert found == pytest.approx(exact, rel=0.1)
    wall, _ = reflected_packet(np.zeros(0), omega)
    assert wall == pytest.approx(1.0, abs=2e-3)


# --- the profile ----------------------------------------------------------------------------------------------------


def test_damping_grows_linearly_to_the_nearest_chosen_face():
    x = np.random.default_rng(2).uniform(0, 100, (500, 3))
    corners = {"low": (0, 0, 0), "high": (100, 100, 100)}
    g = box_damping(x, width=20, gamma_max=3.0, **corners)
    distance = np.minimum(x, 100 - x).min(axis=1)
    assert_allclose(g, 3.0 * np.clip(1 - distance / 20, 0, None))
    assert (g == 0).any()
    g = box_damping(x, width=20, gamma_max=3.0, faces=["x+", "z-"], **corners)
    assert_allclose(g, 3.0 * np.clip(1 - np.minimum(100 - x[:, 0], x[:, 2]) / 20, 0, None))
    ends = box_damping(x, width=20, gamma_max=3.0, faces=("x-", "x+"))
    assert_allclose(strip_damping(x, width=20, gamma_max=3.0), ends)
    sides = strip_damping(x, width=20, gamma_max=3.0, sides=True, **corners)
    assert_allclose(sides, 3.0 * np.clip(1 - distance_xy(x) / 20, 0, None))
    assert ends.max() == 3.0  # the outermost atoms are the boundary
    r = np.hypot(x[:, 1] - 50, x[:, 2] - 40)
    g = disc_damping(x, width=10, gamma_max=2.0, centre=(7, 50, 40), radius=45, axis=0)
    assert_allclose(g, 2.0 * np.clip(1 - (45 - r) / 10, 0, 1))
    assert (g[r > 45] == 2.0).all()
    assert disc_damping(x, width=10, gamma_max=2.0, centre=(7, 50, 40), axis=0).argmax() == r.argmax()


def distance_xy(x):
    return np.minimum(x, 100 - x)[:, :2].min(axis=1)


def test_a_stadium_leaves_room_inside():
    x = np.array([[0.0, 0, 0], [30, 30, 30]])
    with pytest.raises(ValueError, match="room for less than 15 angstrom along x"):
        box_damping(x, width=15, gamma_max=1)
    box_damping(x, width=15, gamma_max=1, faces=["x-"])
    with pytest.raises(ValueError, match="room for less than 12 angstrom on the radius"):
        disc_damping(x, width=13, gamma_max=1, centre=(0, 0, 0), radius=12)
    with pytest.raises(ValueError, match="must be some of x-"):
        box_damping(x, width=1, gamma_max=1, faces=["x"])
    with pytest.raises(ValueError, match="must be positive, got 0 and 1"):
        strip_damping(x, width=0, gamma_max=1)
    with pytest.raises(ValueError, match="shape"):
        strip_damping(x[0], width=1, gamma_max=1)


def test_levels_are_planes_or_means():
    planes = np.repeat(linear_ramp(2.0, 8), 5) * (1 + 1e-12 * np.arange(40))
    gammas = np.concatenate([[0.0, 0.0], planes])
    labels, values = graded(gammas, 16)
    assert_allclose(values, linear_ramp(2.0, 8), rtol=1e-9)
    assert (labels[:2] == -1).all()
    assert_allclose(values[labels[2:]], planes, rtol=1e-9)
    gammas = np.random.default_rng(3).uniform(0, 5, 1000)
    labels, values = graded(gammas, 10)
    assert len(values) == 10
    assert_allclose(values[labels].sum(), gammas.sum())
    assert np.abs(values[labels] - gammas).max() < 0.5
    assert graded(np.zeros(4), 3)[1].size == 0
    with pytest.raises(ValueError, match="none negative"):
        graded([-1.0], 3)
    with pytest.raises(ValueError, match="at least 1"):
        graded([1.0], 0)


# --- what is suggested ------------------------------------------------------------------------------------------------


def silicon_speeds(directions):
    """Stillinger-Weber silicon: C11, C12, C44 = 151.42, 76.42, 56.45 GPa."""
    C = np.zeros((6, 6))
    C[:3, :3] = 76.4221
    C[range(3), range(3)] = 151.4244
    C[range(3, 6), range(3, 6)] = 56.4493
    return sound_speeds(C, 8 * 28.0855 / 5.431**3, directions)


def test_speeds_of_sound_of_a_cubic_crystal():
    rho = 2.32916e3  # kg/m3 of the same cell
    c11, c12, c44 = 151.4244e9, 76.4221e9, 56.4493e9
    speeds, vectors = silicon_speeds([[1, 0, 0], [1, 1, 0], [2, 2, 2]])
    m_per_s = 100 * speeds
    assert_allclose(m_per_s[0], np.sqrt(np.array([c44, c44, c11]) / rho), rtol=1e-4)
    squared = [(c11 - c12) / 2, c44, (c11 + c12 + 2 * c44) / 2]
    assert_allclose(m_per_s[1], np.sqrt(np.array(squared) / rho), rtol=1e-4)
    squared = [(c11 - c12 + c44) / 3] * 2 + [(c11 + 2 * c12 + 4 * c44) / 3]
    assert_allclose(m_per_s[2], np.sqrt(np.array(squared) / rho), rtol=1e-4)
    assert_allclose(np.abs(vectors[1, 2]), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-12)
    with pytest.raises(ValueError, match="not stable"):
        sound_speeds(np.diag([1.0, 1, 1, -1, 1, 1]), 1.0, [0, 1, 0])


def test_the_suggested_stadium_is_the_narrowest_that_absorbs():
    found = suggested(1.0, spacing=1.0)
    top = 1 / np.pi
    nu = np.geomspace(0.1 * top, 0.95 * top, 500)
    reflected = wave_reflection(nu, speed=1, spacing=1, width=found.width, gamma_max=found.gamma_max)
    assert reflected.max() < 0.01
    assert reflected.max() == pytest.approx(found.reflection, rel=0.02)
    narrower = [
        wave_reflection(nu, speed=1, spacing=1, width=found.width - 1, gamma_max=g).max()
        for g in np.geomspace(0.05, 2, 200)
    ]
    assert min(narrower) > 0.01
    # The same crystal in other units, and by its top frequency.
    speeds, _ = silicon_speeds([1, 1, 0])
    spacing = 5.431 / np.sqrt(8)
    si = suggested(speeds, spacing=spacing)
    assert si.width == pytest.approx(found.width * spacing)
    assert si.gamma_max == pytest.approx(found.gamma_max * speeds.max() / spacing, rel=1e-9)
    by_top = suggested(speeds, top_THz=speeds.max() / (np.pi * spacing))
    assert by_top.width == pytest.approx(si.width)
    # Longer waves need more width, in proportion.
    assert best_damping(1.0, width=found.width, spacing=1.0) == found
    assert best_damping(1.0, width=10.5, spacing=1.0).reflection > 0.01
    low = suggested(1.0, spacing=1.0, range_THz=(0.025 * top, 0.95 * top))
    assert 3.5 * found.width < low.width < 4.5 * found.width
    assert suggested(1.0, spacing=1.0, below=0.1).width < found.width


def test_a_host_that_is_too_small_hears_what_would_fit():
    wanted = suggested(50.0, spacing=2.0)
    assert suggested(50.0, spacing=2.0, room=wanted.width) == wanted
    with pytest.raises(ValueError, match=f"{wanted.width:.4g} angstrom of width") as caught:
        suggested(50.0, spacing=2.0, room=20.0)
    reflected = float(str(caught.value).split("reflects ")[1].split(" %")[0]) / 100
    nu = np.geomspace(*wanted.range_THz, 100)
    gammas = np.geomspace(1, 50, 300)
    best = min(wave_reflection(nu, speed=50, spacing=2, width=20, gamma_max=g).max() for g in gammas)
    assert reflected == pytest.approx(best, rel=0.05)
    assert reflected > 0.01
    with pytest.raises(ValueError, match="not one plane fits"):
        suggested(50.0, spacing=2.0, room=1.0)
    with pytest.raises(ValueError, match="band of the fastest wave, which ends at"):
        suggested(50.0, spacing=2.0, range_THz=(1.0, 100.0))
    with pytest.raises(ValueError, match="give one of"):
        suggested(50.0)
    with pytest.raises(ValueError, match="must be positive, got 0 and None"):
        suggested(50.0, spacing=0)
    with pytest.raises(ValueError, match="at least one plane, 2 angstrom"):
        best_damping(50.0, spacing=2.0, width=1.0)
    with pytest.raises(ValueError, match="narrower range"):
        suggested(1.0, spacing=1.0, range_THz=(1e-5, 0.2))


def test_levels_reflect_little_more_than_the_smooth_ramp():
    nu = np.geomspace(0.1, 0.95, 50) / np.pi
    best = suggested(1.0, spacing=1.0)
    options = {"speed": 1, "spacing": 1, "width": 2 * best.width, "gamma_max": best.gamma_max / 2}
    smooth, coarse = wave_reflection(nu, **options), wave_reflection(nu, **options, levels=16)
    assert np.abs(coarse - smooth).max() < 1e-3
    rough = wave_reflection(nu, **options, levels=2)
    assert rough.max() > 2 * smooth.max()


# --- equilibrium of the integrator ------------------------------------------------------------------------------------


def test_the_integrator_keeps_the_temperature_at_any_gradation():
    """Stationary covariance of velocity Verlet with LAMMPS's friction (velocities of the half step) on a graded chain.

    x_(n+1) = x_n + dt v_(n+1/2),  v_(n+1/2) = (1 - gamma dt) v_(n-1/2) + dt (-K x_n + R_n),  <R^2> = 2 gamma T/dt.
    """
    n, dt = 12, 0.3
    K = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    gammas = 0.8 * np.clip(np.linspace(-0.5, 1, n), 0, None)
    keep, noise = np.diag(1 - gammas * dt), np.diag(2 * gammas / dt)
    step = np.block([[np.eye(n) - dt**2 * K, dt * keep], [-dt * K, keep]])
    kick = np.vstack([dt**2 * np.eye(n), dt * np.eye(n)])
    covariance = solve_discrete_lyapunov(step, kick @ noise @ kick.T)
    full = np.hstack([-dt * K / 2, (np.eye(n) + keep) / 2])  # mean of the half steps before and after
    temperature = np.diag(full @ covariance @ full.T) + dt**2 / 4 * np.diag(noise)
    assert_allclose(temperature, 1.0, rtol=1e-9)
    assert np.diag(covariance)[n:].max() > 1.1  # those of half steps are too hot
