"""Events for the next night: the lists that the service shows, and what users do with them.

The `recorder` takes events without making a request wait, and `encode` writes them as messages. `pending` keeps answers
until somebody reports what was shown of them. The `spool` holds messages on disk until the `shipper` has delivered them
to Kafka or the event log.
"""
