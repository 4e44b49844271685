"""What is done at intervals or after an end: rescuing, closing, hooks, removal, schedules, leases."""
