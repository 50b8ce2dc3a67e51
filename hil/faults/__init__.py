"""What happens to the cloud when parts of it fail under load."""
