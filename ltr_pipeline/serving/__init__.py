"""The service: it ranks with the published weights, takes new ones without downtime, and logs what it showed.

``http/`` is the way in, ``ranking/`` answers, ``weights/`` are what it answers with, ``eventlog/`` is what the next
night learns from. `wire` says what is let in, `guard` what new weights are held to.
"""
