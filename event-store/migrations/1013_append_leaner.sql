-- An append pays for every index, and nobody asks the log for a time: what is asked for by time is asked
-- for within a stream, whose own index it is, and positions grow with the time anyway. That was a tenth of
-- a lone append.
drop index events_recorded_at;

-- Appends the one event of one command, as 1012 says; it differs where a place may be taken.
create or replace function log_append_one(
    hint           bigint, -- A position that the log surely has.
    tip_at         timestamptz, -- When it was recorded, where it was the last; else null.
    command_id     uuid,
    request_hash   bytea,
    stream_id      uuid,
    category       text,
    base           bigint, -- The stream's version now.
    event_id       uuid,
    correlation_id uuid,
    causation_id   uuid,
    occurred_at    timestamptz,
    slice          smallint,
    event_type     text,
    actor          text,
    traceparent    text,
    payload        json
) returns bigint[] language plpgsql volatile as $$
#variable_conflict use_variable
declare
    near constant bigint := 1000000; -- See `log_append`, which explains every step.
    head bigint := hint;
    at   timestamptz := tip_at;
begin
    if pg_advisory_xact_lock(24560174593821772) is null then end if;

    if at is null then
        select e.position, e.recorded_at into head, at
        from events e where e.position between hint and hint + near order by e.position desc limit 1;
        if not found or head = hint + near then
            return null;
        end if;
    end if;
    at := greatest(date_trunc('milliseconds', clock_timestamp()), at);

    perform from commands c
    where c.command_id = command_id and c.recorded_at < at + interval '1 day';
    if found then
        return null;
    end if;

    if base = 0 then
        insert into streams (stream_id, category, version, first_position, last_position)
        values (stream_id, category, 1, head + 1, head + 1) on conflict do nothing;
    else
        update streams s set version = base + 1, last_position = head + 1
        where s.stream_id = stream_id and s.version = base and s.category = category;
    end if;
    if not found then
        return null;
    end if;

    insert into events (
        position, stream_id, stream_version, event_id, command_id, correlation_id, causation_id,
        occurred_at, recorded_at, slice, category, event_type, actor, traceparent, payload)
    values (
        head + 1, stream_id, base + 1, event_id, command_id, correlation_id, causation_id,
        occurred_at, at, slice, category, event_type, actor, traceparent, payload)
    on conflict do nothing; -- Of whatever key: naming one has its like looked up in the catalog.
    if not found then
        select e.position, greatest(e.recorded_at, at) into head, at
        from events e where e.position >= hint order by e.position desc limit 1;
        update streams s
        set last_position = head + 1,
            first_position = case base when 0 then head + 1 else s.first_position end
        where s.stream_id = stream_id;
        insert into events (
            position, stream_id, stream_version, event_id, command_id, correlation_id, causation_id,
            occurred_at, recorded_at, slice, category, event_type, actor, traceparent, payload)
        values (
            head + 1, stream_id, base + 1, event_id, command_id, correlation_id, causation_id,
            occurred_at, at, slice, category, event_type, actor, traceparent, payload);
    end if;
    insert into commands (command_id, request_hash, stream_id, version, position, recorded_at)
    values (command_id, request_hash, stream_id, base + 1, head + 1, at);
    return array[head + 1, (date_part('epoch', at) * 1000)::bigint];
end $$;
