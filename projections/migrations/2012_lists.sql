-- Lists of payments, fulfilment orders and sagas. Rows of the version before were opened at the
-- beginning of time, until they are rebuilt.

set local role waybill_write;

alter table read_models.payment_ledger add column opened_at timestamptz not null default 'epoch';
create index on read_models.payment_ledger (opened_at, payment_id);
create index on read_models.payment_ledger (state, opened_at, payment_id);

alter table read_models.shipment_tracking add column opened_at timestamptz not null default 'epoch';
create index on read_models.shipment_tracking (opened_at, fulfilment_id);
create index on read_models.shipment_tracking (status, opened_at, fulfilment_id);

create index on read_models.saga_view (started_at, saga_id);
create index on read_models.saga_view (state, started_at, saga_id);
create index on read_models.saga_view (outcome, started_at, saga_id);
create index on read_models.saga_view (started_at, saga_id) where outcome is null;
create index on read_models.saga_view (started_at, saga_id) where parked is not null;

reset role;
