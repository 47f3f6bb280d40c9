"""Vibrations of crystals and of defects in them, in supercells and without end."""
