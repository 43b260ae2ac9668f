"""What an export takes in time and memory, how it grades models, and what it refuses."""
