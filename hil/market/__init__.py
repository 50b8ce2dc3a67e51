"""A small reserve market on recorded prices, for the rig: auction, tariff and its HTTP server."""
