-- Announced supply. Rows of the version before say that nothing is announced.

set local role waybill_write;

alter table read_models.stock_level
    add column incoming bigint not null default 0,
    add column expected jsonb  not null default '{}';

-- The skus of which nothing can be ordered: few, and asked for often.
create index on read_models.stock_level (sku collate "C") where available <= 0;

reset role;
