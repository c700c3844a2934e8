"""What a scanner or a patient does to an image."""
