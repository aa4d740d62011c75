"""Proximal policy optimization of a language model against any mix of rewards."""
