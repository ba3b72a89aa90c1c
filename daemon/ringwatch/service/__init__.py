"""The whole: what is wired to what, and its life from start to stop."""
