"""Keys, certificates, claim tokens, NATS credentials and the signing of commands."""
