-- The read models: tables that are folded from the log and can be folded again at any time.
--
-- They live in a schema of their own that the serving role owns, because a rebuild makes a new
-- table beside the live one and switches by renaming. Every table has one UUID as its primary
-- key, and every further index serves a filter of the query API; rebuilds copy these definitions.
-- A fold updates its rows often, so pages keep room to update in place.

do $$
begin
    create role waybill_write nologin;
exception when duplicate_object or unique_violation then null; -- Another migration made it.
end $$;

do $$
begin
    create role waybill_read nologin;
exception when duplicate_object or unique_violation then null;
end $$;

do $$
begin
    if not pg_has_role(current_user, 'waybill_write', 'member') then
        execute format('grant waybill_write, waybill_read to %I', current_user);
    end if;
end $$;

create schema read_models authorization waybill_write;

-- How far the log is and how old its events are, for whoever may not read the events themselves.
create view read_models.log as select position, recorded_at from events;

set local role waybill_write;

grant usage on schema read_models to waybill_read;
alter default privileges in schema read_models grant select on tables to waybill_read;

-- Which version of a read model its table holds, and what the last rebuild left behind.
create table read_models.versions (
    name         text        not null primary key,
    version      integer     not null,
    rebuilt_at   timestamptz,
    -- The position that the table kept for a rollback is at.
    old_position bigint,
    old_version  integer
);

create table read_models.order_summary (
    order_id          uuid        not null primary key,
    customer          uuid        not null,
    status            text        not null,
    payment_status    text        not null,
    fulfilment_status text        not null,
    line_count        integer     not null,
    currency          text        not null,
    total             bigint      not null, -- Amounts are minor units of the currency.
    captured          bigint      not null,
    refunded          bigint      not null,
    confirmed         boolean     not null,
    placed_at         timestamptz not null,
    updated_at        timestamptz not null,
    version           bigint      not null
) with (fillfactor = 70);
create index on read_models.order_summary (placed_at, order_id);
create index on read_models.order_summary (customer, placed_at, order_id);
create index on read_models.order_summary (status, placed_at, order_id);

create table read_models.order_detail (
    order_id          uuid        not null primary key,
    customer          uuid        not null,
    status            text        not null,
    payment_status    text        not null,
    fulfilment_status text        not null,
    lines             jsonb       not null,
    shipping_address  jsonb       not null,
    payment_method    text        not null,
    currency          text        not null,
    total             bigint      not null,
    captured          bigint      not null,
    refunded          bigint      not null,
    rejected          jsonb,
    short             jsonb       not null,
    cancel_reason     jsonb,
    tracking_code     text,
    placed_at         timestamptz not null,
    confirmed_at      timestamptz,
    shipped_at        timestamptz,
    delivered_at      timestamptz,
    closed_at         timestamptz,
    updated_at        timestamptz not null,
    version           bigint      not null
) with (fillfactor = 70);

-- Written once, never updated. The key is made of the position, so that it grows at one end.
create table read_models.order_timeline (
    entry_id       uuid        not null primary key,
    order_id       uuid        not null,
    position       bigint      not null,
    category       text        not null,
    stream_id      uuid        not null,
    stream_version bigint      not null,
    event_type     text        not null,
    event_id       uuid        not null,
    command_id     uuid        not null,
    causation_id   uuid        not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    actor          text        not null,
    data           json        not null  -- Passed on as it is, never searched.
);
create index on read_models.order_timeline (order_id, position);

create table read_models.stock_level (
    stock_id   uuid        not null primary key, -- Follows from the sku.
    sku        text        not null,
    on_hand    bigint      not null,
    reserved   bigint      not null,
    available  bigint      not null,
    updated_at timestamptz not null,
    version    bigint      not null
) with (fillfactor = 70);
-- Sorted as the query API pages: by bytes, whatever the database's collation.
create index on read_models.stock_level (sku collate "C");

create table read_models.payment_ledger (
    payment_id   uuid        not null primary key,
    order_id     uuid        not null,
    state        text        not null,
    currency     text,
    amount       bigint      not null,
    authorised   bigint      not null,
    captured     bigint      not null,
    refunded     bigint      not null,
    balance      bigint      not null,
    unwanted     boolean     not null,
    provider_ref text,
    transactions jsonb       not null,
    updated_at   timestamptz not null,
    version      bigint      not null
) with (fillfactor = 70);
create index on read_models.payment_ledger (order_id);

create table read_models.shipment_tracking (
    fulfilment_id uuid        not null primary key,
    shipment_id   uuid        not null,
    order_id      uuid        not null,
    status        text        not null,
    released      boolean     not null,
    units         jsonb       not null,
    address       jsonb,
    carrier_ref   text,
    tracking_code text,
    label         text        not null,
    scans         jsonb       not null,
    packed_at     timestamptz,
    handed_over_at timestamptz,
    delivered_at  timestamptz,
    updated_at    timestamptz not null,
    version       bigint      not null
) with (fillfactor = 70);
create index on read_models.shipment_tracking (order_id);

create table read_models.saga_view (
    saga_id            uuid        not null primary key,
    order_id           uuid        not null,
    definition         text        not null,
    definition_version integer     not null,
    state              text        not null,
    outcome            text,
    compensating       text,
    parked             jsonb,
    steps              jsonb       not null,
    timers             jsonb       not null,
    deferred           bigint      not null,
    ignored            bigint      not null,
    started_at         timestamptz not null,
    finished_at        timestamptz,
    updated_at         timestamptz not null,
    version            bigint      not null
) with (fillfactor = 70);
create index on read_models.saga_view (order_id);

reset role;

-- The view runs as whoever migrated, who may read the events.
grant select on read_models.log to waybill_read, waybill_write;
