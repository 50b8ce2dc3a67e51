"""The ledger (SQLite) and the history (Parquet)."""
