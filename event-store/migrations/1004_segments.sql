-- The seals of the log: each is SHA-256 over the seal before it and every column of every event of
-- its segment, so that whoever keeps one seal elsewhere notices any later change to what came
-- before it. Made off the append path, some time after a segment is full. docs/log.md says byte by
-- byte what is sealed.
create table segments (
    number         bigint      not null primary key check (number > 0),
    first_position bigint      not null unique,
    last_position  bigint      not null unique,
    -- Part of what is sealed, so that the segments of two logs are never taken for each other.
    log            text        not null,
    seal           bytea       not null check (octet_length(seal) = 32),
    sealed_at      timestamptz not null default now(),
    check (first_position <= last_position)
);

create function segments_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'seals are never changed or removed'
        using errcode = 'restrict_violation', hint = 'run `waybill log verify` to see whether one is wrong';
end $$;

create trigger segments_refuse_change before update or delete or truncate on segments
    for each statement execute function segments_refuse_change();

grant select, insert on segments to waybill_write;
