"""What is kept: replies under their digest, and the folder of a run."""
