"""Errors, the paper's protocols, and reports of them."""
