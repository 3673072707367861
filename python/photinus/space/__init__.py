"""Spaces: a solar system, a room, a match."""
