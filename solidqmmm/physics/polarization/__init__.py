"""Sites that answer a field: induced dipoles, Drude oscillators, damping, and the catastrophe they can run into."""
