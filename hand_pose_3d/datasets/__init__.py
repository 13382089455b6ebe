"""Readers of hand pose data sets, each from its original folder."""
