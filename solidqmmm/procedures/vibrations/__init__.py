"""Vibrations of hybrid crystals: Hessians, bulk phonons, modes of defects."""
