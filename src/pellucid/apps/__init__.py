"""Programs built on the verbs: demo, sheet."""
