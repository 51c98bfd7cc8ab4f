-- Rebuilds that go on after a kill, and the way back from one.

set local role waybill_write;

-- A rebuild under way. Whatever is said here is in the table beside the live one, for both are
-- written in one transaction; the next start goes on from it. Gone with the switch.
create table read_models.rebuilds (
    name       text        not null primary key,
    -- What it folds. A release with another version starts over.
    version    integer     not null,
    -- Rises with every start: a process that was believed dead names an old one and writes nothing.
    attempt    bigint      not null default 1,
    -- Every group is folded up to here and no further.
    through    bigint      not null,
    -- All of it is folded up to here, once every group is.
    position   bigint      not null,
    indexed    boolean     not null default false,
    -- Streams of which something was left out while catching up, because they were parked.
    left_out   uuid[]      not null default '{}',
    started_at timestamptz not null default now()
);

-- The slices, cut into groups that are folded apart from each other.
create table read_models.rebuild_groups (
    name         text        not null references read_models.rebuilds on delete cascade,
    from_slice   smallint    not null,
    before_slice smallint    not null check (before_slice > from_slice),
    folded_at    timestamptz, -- Null while it is not.
    rows         bigint      not null default 0,
    events       bigint      not null default 0,
    left_out     uuid[]      not null default '{}',
    primary key (name, from_slice)
);

-- The table that is kept for a rollback stands where the ranges of its consumer stood: their rows
-- of `checkpoints` as they were. And a version that was gone back from is not rebuilt by itself.
alter table read_models.versions
    drop column old_position,
    add column old_checkpoints jsonb,
    add column refused_version integer;

reset role;
