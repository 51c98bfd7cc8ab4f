-- Lists of orders: by sku, by word, and by customer and status.

set local role waybill_write;

create index on read_models.order_summary (customer, status, placed_at, order_id);

-- Written once, when an order is placed.
create table read_models.order_sku (
    entry_id  uuid        not null primary key, -- Follows from the order and the sku's place in it.
    order_id  uuid        not null,
    sku       text        not null,
    quantity  bigint      not null,
    placed_at timestamptz not null
);
create index on read_models.order_sku (sku, placed_at, order_id);

create table read_models.order_search (
    order_id  uuid        not null primary key,
    words     text        not null,
    -- The words as they are: no parser that knows languages, mails and numbers takes them apart.
    document  tsvector    not null
        generated always as (array_to_tsvector(string_to_array(words, ' '))) stored,
    placed_at timestamptz not null
) with (fillfactor = 70);
-- Without a list of what is not in the index yet: every search would have to read it.
create index on read_models.order_search using gin (document) with (fastupdate = off);
-- For words that stand in so many orders that walking through the newest is quicker.
create index on read_models.order_search (placed_at, order_id);

reset role;
