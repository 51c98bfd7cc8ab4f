-- The timers that run, made from the journals of the sagas and from nothing else. A row is
-- written when a timer starts and goes when the journal says that it fired, was stopped, or got
-- its answer. It is a convenience: firing twice or firing what was stopped changes nothing.
create table saga_timers (
    saga_id       uuid        not null,
    name          text        not null,
    -- Which start of the timer: the saga ignores an older one.
    epoch         bigint      not null,
    due           timestamptz not null,
    -- Set by the poller that is firing it, so that others leave it alone for a while.
    claimed_until timestamptz,
    primary key (saga_id, name)
);

create index saga_timers_due on saga_timers (due);

grant select, insert, update, delete on saga_timers to waybill_write;
