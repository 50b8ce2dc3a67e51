"""What is armed, what it should deliver, and the intents that say so."""
