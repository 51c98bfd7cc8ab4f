-- Orders and parcels that wait, and what turned out to be missing.

set local role waybill_write;

alter table read_models.order_summary add column holds jsonb not null default '[]';
alter table read_models.order_detail add column holds jsonb not null default '[]';
alter table read_models.order_detail add column cancelled_units jsonb not null default '[]';
alter table read_models.shipment_tracking add column on_hold boolean not null default false;
alter table read_models.shipment_tracking add column short jsonb not null default '[]';

reset role;
