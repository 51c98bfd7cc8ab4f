-- Where a customer does what the provider wants of them before it holds the money, and what was
-- lost of the money that it took.

set local role waybill_write;

alter table read_models.payment_ledger add column action_url text;
alter table read_models.payment_ledger add column reversed bigint not null default 0;

reset role;
