"""Training of the models that the product runs, on recorded data."""
