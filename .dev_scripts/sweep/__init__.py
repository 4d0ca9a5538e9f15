"""The parts of ../sweep_upstream_configs.py."""
