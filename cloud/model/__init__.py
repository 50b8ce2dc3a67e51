"""Portfolio, resources, products and money as frozen values."""
