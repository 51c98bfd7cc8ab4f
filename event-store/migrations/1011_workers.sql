-- A consumer is spread over workers: each range of slices has a checkpoint and a lease of its own.
-- The ranges of a consumer lie side by side and cover all slices.

-- Over how many workers each consumer is spread. What people ask for; the workers see to it.
create table consumers (
    consumer text     not null primary key,
    workers  smallint not null default 1 check (workers between 1 and 64)
);

-- Who takes part in a consumer's work, whether it holds a range or not.
create table consumer_members (
    consumer   text        not null,
    member     text        not null,
    seen_until timestamptz not null,
    primary key (consumer, member)
);

alter table checkpoints
    add column from_slice   smallint not null default 0,
    add column before_slice smallint not null default 1024,
    -- The range waits here for the others, so that all can be laid out anew; none while it works.
    add column stop_at      bigint,
    add check (0 <= from_slice and from_slice < before_slice and before_slice <= 1024),
    drop constraint checkpoints_pkey,
    add primary key (consumer, from_slice);

insert into consumers (consumer) select consumer from checkpoints;

-- When what is parked is to be tried again, because somebody asked for it; none while nobody did.
alter table parked_streams
    add column retry_at timestamptz,
    add column tries    integer not null default 0;
create index on parked_streams (consumer, retry_at) where retry_at is not null;

-- Events that people decided to leave out, for a consumer and for whoever folds in its place.
create table dropped_events (
    consumer text   not null,
    position bigint not null,
    primary key (consumer, position)
);

-- What people did about parked streams.
create table parked_acts (
    act         bigint      not null generated always as identity primary key,
    acted_at    timestamptz not null default clock_timestamp(),
    actor       text        not null,
    action      text        not null check (action in ('retry', 'drop')),
    consumer    text,
    fingerprint text,
    key         uuid,
    reason      text        not null,
    streams     bigint      not null,
    events      bigint      not null
);

grant select, insert, update, delete on consumers, consumer_members to waybill_write;
grant select, insert on dropped_events, parked_acts to waybill_write;
grant select on consumers, consumer_members, dropped_events, parked_acts to waybill_read;
