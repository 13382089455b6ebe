"""Latency of every stage, memory and start-up, beside MediaPipe Hands where it is installed."""
