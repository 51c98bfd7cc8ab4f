-- How far each consumer has come. The only truth about progress: what JetStream acknowledges
-- is a courtesy. A worker may move a checkpoint only while `epoch` is the one it was given.
create table checkpoints (
    consumer     text        primary key,
    -- Rises each time the lease changes hands: an old holder's late write names an old epoch.
    epoch        bigint      not null default 0,
    position     bigint      not null default 0 check (position >= 0),
    -- For people: who holds the lease, or held it last.
    owner        text,
    leased_until timestamptz,
    updated_at   timestamptz not null default now()
)
-- A handful of hot rows: leave room so that every update stays on its page.
with (fillfactor = 10);

-- What a consumer could not take. Later events of the same key wait behind it, in order.
-- The key is the stream for projections, and whatever a reactor keeps in order for reactors.
create table parked_streams (
    consumer       text        not null,
    key            uuid        not null,
    stream_id      uuid        not null,
    category       text        not null,
    first_position bigint      not null,
    reason         text        not null,
    -- Same kind of event, same reason: lets a tool group what has one cause.
    fingerprint    text        not null,
    parked_at      timestamptz not null default now(),
    primary key (consumer, key)
);

create table parked_events (
    consumer text   not null,
    key      uuid   not null,
    position bigint not null,
    primary key (consumer, key, position),
    foreign key (consumer, key) references parked_streams on delete cascade
);

grant select, insert, update, delete on checkpoints, parked_streams, parked_events
    to waybill_write;
grant select on checkpoints, parked_streams, parked_events to waybill_read;
