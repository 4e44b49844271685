"""What a flow is: graphs, plans, states, outcomes, events and snapshots. Pure: no I/O, no clock, no await."""
