"""What a flow does, a sentence for each behaviour, on a real server with one partition and with four."""
