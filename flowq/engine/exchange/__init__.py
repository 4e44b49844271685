"""A worker's exchange with the server: a holder's claims, and what it reports of them."""
