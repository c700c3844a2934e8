"""One verb each: Volume in, Result out."""
