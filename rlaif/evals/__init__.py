"""Evaluations: benchmark protocols, files of other tools, tables and audits, all on verdicts."""
