"""The whole chain as processes on one machine, and the report of what it did."""
