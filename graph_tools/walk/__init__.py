"""What the reverse walk stands on: which edges matter, bodies in place of operators, sequences, blame."""
