"""Networks: batch in, batch out."""
