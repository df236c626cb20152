#!/bin/sh
# Run once, on an empty database: a user that can read the registry and change nothing in it, for vLLM servers.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc --quiet \
    --set ON_ERROR_STOP=1 --set "password=$READER_PASSWORD" <<'SQL'
CREATE ROLE reader LOGIN PASSWORD :'password';
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
SQL
