"""The users' code: its modules, the stages of it that a worker serves, and those that flowq brings."""
