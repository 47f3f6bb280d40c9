"""What a run of molecular dynamics is made of."""
