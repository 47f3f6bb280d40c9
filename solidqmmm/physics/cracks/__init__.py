"""Cracks: elastic fields, geometry of plane and front, where the tip is, how a load rises."""
