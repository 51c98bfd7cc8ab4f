-- What was sold. A row is an order's, and counts from the day on which money was first taken.

set local role waybill_write;

create table read_models.sales (
    order_id uuid   not null primary key,
    day      date,
    currency text,
    captured bigint not null, -- Amounts are minor units of the currency.
    refunded bigint not null,
    items    jsonb  not null,
    skus     text   not null,
    -- Of an array Postgres knows how often each element occurs; of JSON it does not.
    named    text[] not null generated always as (string_to_array(skus, ' ')) stored
) with (fillfactor = 70);
create index on read_models.sales (day) where day is not null;
create index on read_models.sales (currency, day) where day is not null;
create index on read_models.sales using gin (named) with (fastupdate = off)
    where day is not null;

reset role;
