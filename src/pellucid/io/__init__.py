"""Files <-> Volume; the only room that knows formats."""
