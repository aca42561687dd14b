#!/bin/bash
# Makes the database `ltr` and its user of that name, beside Airflow's, in the PostgreSQL that PGHOST and the like name;
# run again, it changes the password to what it is now. docker-compose.yaml (postgres-init) and deploy/native/stack.py
# run it. Secrets reach psql by its environment: command lines are there for everybody to see.
set -euo pipefail

"${PSQL:-psql}" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 <<'SQL'
\getenv password POSTGRES_LTR_PASSWORD
SET client_min_messages = warning;
SELECT 'CREATE ROLE ltr LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ltr') \gexec
ALTER ROLE ltr PASSWORD :'password';
SELECT 'CREATE DATABASE ltr OWNER ltr' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'ltr') \gexec
REVOKE CONNECT, TEMPORARY ON DATABASE ltr FROM PUBLIC;
SQL
