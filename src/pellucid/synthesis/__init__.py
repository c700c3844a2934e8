"""Label map -> image of any contrast."""
