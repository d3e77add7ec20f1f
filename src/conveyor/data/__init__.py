"""Readers, one a format: what a user has, as plain arrays."""
