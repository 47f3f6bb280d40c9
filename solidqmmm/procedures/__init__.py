"""Verbs: build, carve, relax, match, check, dynamics."""
