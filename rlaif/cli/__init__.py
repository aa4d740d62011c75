"""The command line: it reads the environment, picks providers, and prints."""
