"""What a notebook uses: a judge that is asked in one line, and verdicts that show themselves."""
