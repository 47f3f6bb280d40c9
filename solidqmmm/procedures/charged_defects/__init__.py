"""Charged defects: series of cells, dielectric tensors, routes to the infinite crystal."""
