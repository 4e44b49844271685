"""What a process and its host have room for."""
