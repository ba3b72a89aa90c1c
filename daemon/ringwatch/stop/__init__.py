"""Evaluations in, "keep measuring" or "enough, because ..." out. Pure: no clock, no socket, no detector."""
