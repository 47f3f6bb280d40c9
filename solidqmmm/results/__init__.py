"""Frozen answers: JSON with units, provenance; they know nothing of drawing."""
