"""Pure functions on arrays, one family of formulas per file: no files, no engines, no atoms of a library."""
