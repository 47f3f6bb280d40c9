"""Atoms at a temperature: velocities, profiles, what an integrator conserves, what a damped end reflects."""
