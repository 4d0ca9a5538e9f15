"""What the programs in tools/ do: read a config, apply the options, check first, then run."""
