"""The front door of every kernel: checks, output sizes, allocation, then one kernel call."""
