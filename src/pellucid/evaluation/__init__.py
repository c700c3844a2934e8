"""Protocols: pipelines + degradation + metrics -> rows."""
