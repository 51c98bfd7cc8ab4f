-- Where a customer does what the provider wants of them before it holds the money.

set local role waybill_write;

alter table read_models.payment_ledger add column action_url text;

reset role;
