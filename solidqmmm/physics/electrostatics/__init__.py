"""Sums over charges and dipoles: repeated with the cell, in empty space, on grids, and how few of them stand for all."""
