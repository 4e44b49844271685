"""`FlowProducer` and its parts: adds flows, deals with many at once, and steers queues, schedules and limits."""
