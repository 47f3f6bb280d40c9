"""Recipes: one page each, one ``run(...)`` each, importable as ``solidqmmm.recipes.<name>``."""
