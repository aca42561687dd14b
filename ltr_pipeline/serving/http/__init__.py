"""HTTP: `app` has the routes, `auth` decides who may write, `access` logs requests, `openapi` describes all."""
