"""The service's view of the history: what the pages and `/monitoring/…` tell, kept fresh off every request's path."""
