"""Programs on this machine: started, known again, awaited, stopped; their ports, and a lock that one of them has."""
