-- Appends a batch, all of it or nothing. One call is one autocommitted statement, so a client that
-- dies cannot hold the lock.
--
-- The batch says what it builds on: no command of `known_ids` was answered before, and every stream of
-- `stream_ids` is at its `stream_bases`. Where all of that holds, everything is written and `written`
-- is true. Where it does not, nothing is written, and the answer says how things are: the commands that
-- were answered before, and every stream's version. The caller then sorts out which commands lose and
-- sends the others again. Positions inside the batch are counted from 1 and become positions of the
-- log by adding `head`.
--
-- Taking the lock and looking are two statements: the second needs a snapshot taken after the
-- lock was granted. The function must therefore stay volatile, under read committed.
create function log_append(
    hint             bigint,   -- A position that the log surely has: leaves before it are not looked into.
    known_ids        uuid[],   -- Commands to look up: those of the batch, and others that wait.
    stream_ids       uuid[],   -- Streams that the batch builds on, each once.
    stream_names     text[],   -- Their categories.
    stream_bases     bigint[], -- Their versions now.
    stream_versions  bigint[], -- Their versions then; the same where a stream is only read.
    stream_firsts    bigint[], -- Where the batch's first event of each stands in the batch.
    stream_lasts     bigint[], -- Where its last one stands.
    command_ids      uuid[],
    command_hashes   bytea[],
    command_streams  uuid[],
    command_versions bigint[],
    command_lasts    bigint[], -- How many events the batch has up to and including the command's.
    command_codes    text[],
    command_details  text[],
    event_streams    uuid[],
    event_versions   bigint[],
    event_ids        uuid[],
    event_commands   uuid[],
    event_correlations uuid[],
    event_causations uuid[],
    event_times      timestamptz[],
    event_slices     smallint[],
    event_categories text[],
    event_types      text[],
    event_actors     text[],
    event_traces     text[],
    event_payloads   json[],
    out written      boolean,
    out head         bigint,   -- The last position before the batch.
    out found_ids      uuid[],
    out found_hashes   bytea[],
    out found_versions bigint[],
    out found_positions bigint[],
    out found_codes    text[],
    out found_details  text[],
    out current_versions bigint[], -- In the order of `stream_ids`; 0 where there is none.
    out current_names  text[]
) language plpgsql volatile as $$
#variable_conflict use_variable
declare
    near constant bigint := 1000000; -- How far behind the head a hint may be and still save looking into every leaf.
    at   timestamptz;
begin
    -- An expression alone is evaluated without the executor; a query is not.
    if pg_advisory_xact_lock(24560174593821772) is null then end if; -- The letters WAYBILL as a number.

    select e.position, e.recorded_at into head, at
    from events e where e.position between hint and hint + near order by e.position desc limit 1;
    if not found or head = hint + near then
        select e.position, e.recorded_at into head, at from events e order by e.position desc limit 1;
        head := coalesce(head, 0);
    end if;
    -- Never before the last event, should the clock be set back. Kept to the millisecond.
    at := greatest(date_trunc('milliseconds', clock_timestamp()), at);

    -- Leaves of the ledger that begin a day from now hold nothing yet, whatever was done to the clock.
    written := not exists (
            select from commands c
            where c.command_id = any (known_ids) and c.recorded_at < at + interval '1 day')
        and not exists (
            select from (select generate_subscripts(stream_ids, 1) as i) as n
            left join streams s on s.stream_id = stream_ids[i]
            where coalesce(s.version, 0) <> stream_bases[i] or s.category <> stream_names[i]);

    if not written then
        select array_agg(c.command_id), array_agg(c.request_hash), array_agg(c.version),
               array_agg(c.position), array_agg(c.refusal_code), array_agg(c.refusal_detail)
        into found_ids, found_hashes, found_versions, found_positions, found_codes, found_details
        from commands c where c.command_id = any (known_ids);
        select array_agg(coalesce(s.version, 0) order by b.ordinal), array_agg(s.category order by b.ordinal)
        into current_versions, current_names
        from unnest(stream_ids) with ordinality as b (id, ordinal)
        left join streams s on s.stream_id = b.id;
        return;
    end if;

    -- Arrays that are arguments are taken apart once, when the function is entered, so that an
    -- element is reached by its number whatever its width; `unnest` would store them a second time.
    if cardinality(event_ids) > 0 then
        if 0 = any (stream_bases) then
            insert into streams (stream_id, category, version, first_position, last_position)
            select stream_ids[i], stream_names[i], stream_versions[i],
                head + stream_firsts[i], head + stream_lasts[i]
            from (select generate_subscripts(stream_ids, 1) as i) as n
            where stream_bases[i] = 0 and stream_versions[i] > 0;
        end if;
        if 0 < any (stream_bases) then
            update streams s set version = stream_versions[i], last_position = head + stream_lasts[i]
            from (select generate_subscripts(stream_ids, 1) as i) as n
            where s.stream_id = stream_ids[i]
                and stream_bases[i] > 0 and stream_versions[i] > stream_bases[i];
        end if;

        insert into events (
            position, stream_id, stream_version, event_id, command_id, correlation_id,
            causation_id, occurred_at, recorded_at, slice, category, event_type,
            actor, traceparent, payload)
        select head + i, event_streams[i], event_versions[i], event_ids[i], event_commands[i],
            event_correlations[i], event_causations[i], event_times[i], at, event_slices[i],
            event_categories[i], event_types[i], event_actors[i], event_traces[i], event_payloads[i]
        from (select generate_subscripts(event_ids, 1) as i) as n;
    end if;

    insert into commands (
        command_id, request_hash, stream_id, version, position, recorded_at, refusal_code, refusal_detail)
    select command_ids[i], command_hashes[i], command_streams[i], command_versions[i],
        head + command_lasts[i], at, command_codes[i], command_details[i]
    from (select generate_subscripts(command_ids, 1) as i) as n;
end $$;
