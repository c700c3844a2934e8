"""One number per image, never reduced."""
