"""Out of PyTorch: files for other runtimes, and the proof that they hold the same network."""
