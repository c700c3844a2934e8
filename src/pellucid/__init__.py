"""pellucid: any brain MRI, made clear, and honest about it."""
