"""Frozen nouns: crystals, potentials, partitions, clusters, studies."""
