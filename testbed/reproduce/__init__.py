"""Figures of the literature, drawn anew, each with its claims decided by numbers."""
