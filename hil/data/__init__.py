"""Recorded series the rig plays, trimmed from public data; SOURCES.md says what, from where, under which licence."""
