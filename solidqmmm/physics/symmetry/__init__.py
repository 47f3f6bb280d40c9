"""What symmetry leaves free: strains, displacements, irreducible representations, textbook frames."""
