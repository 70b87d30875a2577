"""Prefect: when to run, and what happened."""
