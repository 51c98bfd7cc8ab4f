#!/bin/sh
# Makes the logins of the roles, which own nothing and cannot change history, or gives them
# other passwords. Run by whoever may make roles: the entry point of the Postgres image does so when
# its volume is new.
set -eu

psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-waybill}" \
    --set serve="$POSTGRES_SERVE_PASSWORD" --set query="$POSTGRES_QUERY_PASSWORD" <<'SQL'
select 'create role waybill_write' where not exists (select from pg_roles where rolname = 'waybill_write') \gexec
select 'create role waybill_read' where not exists (select from pg_roles where rolname = 'waybill_read') \gexec
select 'create role waybill_serve' where not exists (select from pg_roles where rolname = 'waybill_serve') \gexec
select 'create role waybill_query' where not exists (select from pg_roles where rolname = 'waybill_query') \gexec
alter role waybill_serve login password :'serve';
alter role waybill_query login password :'query';
grant waybill_write, waybill_read to waybill_serve;
grant waybill_read to waybill_query;
SQL
