-- What was sold. A row is an order's, and counts from the day on which money was first taken.

set local role waybill_write;

create table read_models.sales (
    order_id uuid   not null primary key,
    day      date,
    currency text,
    captured bigint not null, -- Amounts are minor units of the currency.
    refunded bigint not null,
    items    jsonb  not null
) with (fillfactor = 70);
create index on read_models.sales (day) where day is not null;
create index on read_models.sales (currency, day) where day is not null;
create index on read_models.sales
    using gin (jsonb_path_query_array(items, '$[*].sku') jsonb_path_ops) where day is not null;

reset role;
