"""The service: it ranks with the published weights, takes new ones without downtime, and logs what it showed.

``http/`` takes requests, ``ranking/`` answers them, ``weights/`` loads the models that rank, and ``eventlog/`` writes
the events that the next night learns from. `wire` defines bodies and answers, `guard` judges new weights, `periodic`
does chores, `prometheus` has the metrics, `logs` the log lines, `settings` the environment.
"""
