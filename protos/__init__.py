"""The contract that the edge and the cloud share."""
