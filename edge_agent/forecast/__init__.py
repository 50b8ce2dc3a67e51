"""The site's own forecast: its load and the power of its sun for the next 36 hours, from its own past alone."""
