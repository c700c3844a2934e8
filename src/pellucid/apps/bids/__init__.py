"""The BIDS App: a whole dataset in, derivatives out, and no scan's failure stops another's work."""
