-- States of long streams, so that a load need not fold them from the beginning. Nothing rests on
-- them: every row may be deleted at any time, and is made again when it is missed.
--
-- One row for each stream and decider. `shape` is a hash of what the state looks like in the
-- release that wrote it; another release does not find its own there, folds, and replaces it. A row
-- that is ahead of its stream (the log was restored, and this was not) is never found.
create table snapshots (
    stream_id uuid        not null,
    decider   text        not null,
    shape     bytea       not null check (length(shape) = 32),
    version   bigint      not null check (version > 0),
    -- No later event of the stream stands at or before this: older leaves are not looked into.
    position  bigint      not null check (position >= 0),
    taken_at  timestamptz not null default now(),
    state     json        not null,
    primary key (stream_id, decider)
) with (fillfactor = 80);

grant select, insert, update, delete on snapshots to waybill_write;

-- Operators look into streams through the query API. What is personal in them is sealed.
grant select on streams, events, snapshots to waybill_read;
