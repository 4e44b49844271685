"""Worker processes: `Worker` inside your own, and the supervisor with its children."""
