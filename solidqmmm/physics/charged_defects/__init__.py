"""Charged defects in infinite crystals: corrections of one cell, two regions, transition levels."""
