set local role waybill_write;
create table read_models.customer_summary (
    customer       uuid        not null primary key,
    orders         bigint      not null,
    last_placed_at timestamptz not null
) with (fillfactor = 70);
reset role;
