"""Rollouts as they stand in the database."""
