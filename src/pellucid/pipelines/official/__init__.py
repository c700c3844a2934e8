"""Published networks run as their releases run them, or with the faults of that mended. One module a system."""
