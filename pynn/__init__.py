"""Small neural networks on ordinary CPUs."""
