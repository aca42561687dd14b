"""What the service shows and what users do, as events for the next night.

`encode` writes messages, the `recorder` takes them in without making a request wait, `pending` keeps answers until it
is reported what was shown of them, the `spool` holds messages on disk, and the `shipper` brings them to Kafka or the
event log.
"""
