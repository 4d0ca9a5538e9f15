"""Export networks to other runtimes, and check that they compute the same."""
