"""The servers of docker-compose.yaml without Docker, each a program of its own; `stack` starts all of them."""
