"""Constitutional AI: critique and revision, comparison by principle, and checks that it helped."""
