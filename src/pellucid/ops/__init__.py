"""Tensor tools with no MRI meaning."""
