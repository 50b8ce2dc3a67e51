"""The live fleet as columns, one row a site."""
