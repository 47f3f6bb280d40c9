"""Large sparse systems, eigenpairs, and learning from gradients: numbers without a material."""
