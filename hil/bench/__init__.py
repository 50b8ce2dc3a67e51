"""Figures, printed with the machine they were taken on."""
