"""Judges as reward functions of online trainers."""
