-- What customers asked their banks for, and what of the money the banks have until they decide.

set local role waybill_write;

alter table read_models.payment_ledger add column disputed bigint not null default 0;
alter table read_models.payment_ledger add column disputes jsonb not null default '[]';

reset role;
