"""What people see in a terminal. Pure: snapshots in, lines out; nothing here prints, waits or asks the server."""
