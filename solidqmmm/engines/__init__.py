"""Protocols, and one adapter for each code."""
