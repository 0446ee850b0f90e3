"""Figures as pure functions from a frame to a matplotlib figure, in one style; no file is read here."""
