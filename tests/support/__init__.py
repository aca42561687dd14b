"""What tests share: small worlds, servers and services under test, processes that are killed."""
