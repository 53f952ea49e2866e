-- A ledger as a good team would build it in PostgreSQL: totals kept on the account, one row a transaction.
--
-- It is a smaller ledger than ours, which is to its advantage: 64-bit amounts instead of 127 bits, one posting a
-- transaction, one asset, no holds, and nothing is remembered of refused transactions.

create table accounts (
    id          text primary key,
    credits     bigint not null default 0,
    debits      bigint not null default 0,
    min_balance bigint not null
) with (fillfactor = 50);  -- room beside each row, so that an update need not touch the index

create table transactions (
    id          uuid primary key,
    source      text not null,
    destination text not null,
    amount      bigint not null check (amount > 0),
    created     timestamptz not null default now()
);

-- A whole set in one call. The inserts of several clients run side by side; the lock serialises only what touches
-- accounts, and unlike row locks it cannot make two clients wait for each other. An id that is known already changes
-- nothing; one account below its minimum undoes the set.
create function post_set(ids uuid[], sources text[], destinations text[], amounts bigint[]) returns integer
language plpgsql as $$
declare
    touched text[];
    credited bigint[];
    debited bigint[];
    inserted integer;
    good integer;
begin
    with fresh as (
        insert into transactions (id, source, destination, amount)
        select * from unnest(ids, sources, destinations, amounts)
        on conflict (id) do nothing
        returning source, destination, amount
    ), net as (
        select account, sum(credit)::bigint as credit, sum(debit)::bigint as debit
        from (
            select source as account, 0 as credit, amount as debit from fresh
            union all
            select destination, amount, 0 from fresh
        ) as effects
        group by account
    )
    select array_agg(account), array_agg(credit), array_agg(debit), (select count(*) from fresh)
    into touched, credited, debited, inserted from net;
    perform pg_advisory_xact_lock(5);
    with changed as (
        update accounts
        set credits = credits + net.credit, debits = debits + net.debit
        from unnest(touched, credited, debited) as net (account, credit, debit)
        where accounts.id = net.account
        returning accounts.credits - accounts.debits >= accounts.min_balance as enough
    )
    select count(*) into good from changed where enough;
    if good <> coalesce(cardinality(touched), 0) then
        raise exception 'insufficient funds, or an unknown account, in the set';
    end if;
    return inserted;
end
$$;

-- One transfer in one round trip, as a team would write it that had found the round trips to be its limit.
create function post_one(new_id uuid, new_source text, new_destination text, new_amount bigint) returns text
language plpgsql as $$
declare
    balance_after numeric;
    lowest bigint;
begin
    insert into transactions (id, source, destination, amount)
    values (new_id, new_source, new_destination, new_amount) on conflict (id) do nothing;
    if not found then
        return 'known';
    end if;
    perform 1 from accounts where id in (new_source, new_destination) order by id for no key update;
    update accounts set debits = debits + new_amount where id = new_source
    returning credits - debits, min_balance into balance_after, lowest;
    update accounts set credits = credits + new_amount where id = new_destination;
    if lowest is null or not found then
        raise exception 'account_unknown' using errcode = 'no_data_found';
    end if;
    if balance_after < lowest then
        raise exception 'insufficient_funds' using errcode = 'check_violation';
    end if;
    return 'posted';
end
$$;
