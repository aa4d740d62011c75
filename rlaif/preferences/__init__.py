"""From verdicts to training rows: which pairs, which are held back and why, and the data set."""
