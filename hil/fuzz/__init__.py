"""Coverage-guided fuzzing of every parser that faces the network or a device."""
