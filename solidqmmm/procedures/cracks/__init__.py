"""Cracked crystals: made, loaded, followed, and run."""
