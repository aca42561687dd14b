"""HTTP: `app` has the routes, `auth` says who may write, `access` names and logs requests, `openapi` describes all."""
