"""Processes of the machine: the programs that stages run, and both ends between a supervisor and a child."""
