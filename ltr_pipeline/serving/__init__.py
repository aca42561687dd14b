"""The service: it ranks with the published weights, takes new ones without downtime, and logs what it showed.

`app` is HTTP, `service` answers, `models` are what it answers with and `reload` brings new ones. `wire` and `auth` say
what is let in.
"""
