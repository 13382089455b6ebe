"""Metrics, the paper's protocols, and reports."""
