#!/bin/sh
# Makes the logins of the roles, which own nothing and cannot change history. Run once, by whoever
# may make roles: the entry point of the Postgres image does so when its volume is new.
set -eu

psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-waybill}" \
    --set serve="$POSTGRES_SERVE_PASSWORD" --set query="$POSTGRES_QUERY_PASSWORD" <<'SQL'
create role waybill_write nologin;
create role waybill_read nologin;
create role waybill_serve login password :'serve' in role waybill_write, waybill_read;
create role waybill_query login password :'query' in role waybill_read;
SQL
