"""Any tensor -> tensor function over a whole brain."""
