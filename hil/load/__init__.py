"""Many sites over real NATS connections: what they send, who sends it, and whether all of it arrived."""
