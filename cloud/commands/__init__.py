"""What the `vpp-cloud` commands beside `run` do; `cloud.cli` parses and calls them."""
