//! Inventory: every command in every state, and the laws.

use proptest::prelude::*;

use super::*;
use crate::given::{Named, check_codes, check_snapshots, check_table, given, live};
use crate::sample::{at, order, quantity, sku, text, units};

fn rsv() -> ReservationId {
    order().reservation()
}

fn received(sku: &str, units: u32) -> Event {
    Event::StockReceived { sku: self::sku(sku), quantity: quantity(units), reference: None }
}

fn expect(sku: &str, units: u32, reference: &str) -> Command {
    Command::Expect { sku: self::sku(sku), quantity: units, reference: text(reference) }
}

fn expected(sku: &str, quantity: u32, reference: &str) -> Event {
    Event::StockExpected { sku: self::sku(sku), quantity, reference: text(reference) }
}

fn adjusted(sku: &str, delta: i32) -> Event {
    Event::StockAdjusted { sku: self::sku(sku), delta, reason: text("counted") }
}

fn adjust(sku: &str, delta: i32) -> Command {
    Command::Adjust { sku: self::sku(sku), delta, reason: text("counted") }
}

fn held(sku: &str, units: u32) -> Event {
    let (sku, quantity) = (self::sku(sku), quantity(units));
    Event::StockReserved { sku, reservation: rsv(), quantity }
}

fn freed(sku: &str, units: u32) -> Event {
    let (sku, quantity) = (self::sku(sku), quantity(units));
    Event::StockReleased { sku, reservation: rsv(), quantity }
}

fn taken(sku: &str, units: u32) -> Event {
    let (sku, quantity) = (self::sku(sku), quantity(units));
    Event::StockCommitted { sku, reservation: rsv(), quantity }
}

fn returned(sku: &str, units: u32) -> Event {
    let (sku, quantity) = (self::sku(sku), quantity(units));
    Event::StockReturned { sku, reservation: rsv(), quantity }
}

fn reserve(wanted: Vec<Units>, mode: ReserveMode) -> Command {
    Command::Reserve { order: order(), reservation: rsv(), units: wanted, mode, expires_at: at(15) }
}

fn reserved(held: Vec<Units>) -> Event {
    Event::Reserved { order: order(), reservation: rsv(), units: held, expires_at: at(15) }
}

fn rejected(short: Vec<Shortage>) -> Event {
    Event::ReservationRejected { order: order(), reservation: rsv(), short }
}

fn released(units: Vec<Units>) -> Event {
    Event::ReservationReleased { order: order(), reservation: rsv(), units }
}

fn committed(units: Vec<Units>) -> Event {
    Event::ReservationCommitted { order: order(), reservation: rsv(), units }
}

fn expired(units: Vec<Units>) -> Event {
    Event::ReservationExpired { order: order(), reservation: rsv(), units }
}

fn release(skus: &[&str]) -> Command {
    let skus = skus.iter().copied().map(sku).collect();
    Command::Release { order: order(), reservation: rsv(), skus }
}

fn commit(skus: &[&str]) -> Command {
    let skus = skus.iter().copied().map(sku).collect();
    Command::Commit { order: order(), reservation: rsv(), skus }
}

fn reduce(less: Vec<Units>) -> Command {
    Command::Reduce { order: order(), reservation: rsv(), units: less }
}

fn reduced(units: Vec<Units>) -> Event {
    Event::ReservationReduced { order: order(), reservation: rsv(), units }
}

fn expire(skus: &[&str], minutes: i64) -> Command {
    let skus = skus.iter().copied().map(sku).collect();
    Command::Expire { order: order(), reservation: rsv(), skus, at: at(minutes) }
}

fn extend(skus: &[&str], until: i64, at_minutes: i64) -> Command {
    let skus = skus.iter().copied().map(sku).collect();
    let (until, at) = (at(until), at(at_minutes));
    Command::Extend { order: order(), reservation: rsv(), skus, until, at }
}

fn extended(until: i64) -> Event {
    let expires_at = at(until);
    Event::ReservationExtended { order: order(), reservation: rsv(), expires_at }
}

fn short(sku: &str, wanted: u32, available: u32) -> Shortage {
    Shortage { sku: self::sku(sku), wanted: quantity(wanted), available }
}

/// Ten mugs, of which the reservation takes three.
fn states() -> Named<Vec<Event>> {
    let three = || vec![units("mug", 3)];
    let holding = || vec![received("mug", 10), held("mug", 3), reserved(three())];
    let with = |mut history: Vec<Event>, more: Vec<Event>| {
        history.extend(more);
        history
    };
    vec![
        ("absent", vec![]),
        ("stocked", vec![received("mug", 10)]),
        ("held", holding()),
        ("committed", with(holding(), vec![taken("mug", 3), committed(three())])),
        ("released", with(holding(), vec![freed("mug", 3), released(three())])),
        ("expired", with(holding(), vec![freed("mug", 3), expired(three())])),
        ("rejected", vec![received("mug", 10), rejected(vec![short("mug", 11, 10)])]),
        ("tombstone", vec![received("mug", 10), released(vec![])]),
        ("told", vec![received("mug", 10), released(vec![]), rejected(vec![])]),
    ]
}

fn commands() -> Named<Command> {
    let receive = Command::Receive { sku: sku("mug"), quantity: quantity(1), reference: None };
    vec![
        ("expect", expect("mug", 5, "PO-1")),
        ("expect0", expect("mug", 0, "PO-1")),
        ("receive", receive),
        ("adjust+8", adjust("mug", 8)),
        ("adjust-8", adjust("mug", -8)),
        ("adjust-7", adjust("mug", -7)),
        ("adjust0", adjust("mug", 0)),
        ("reserve", reserve(vec![units("mug", 3)], ReserveMode::AllOrNothing)),
        ("partial", reserve(vec![units("mug", 12)], ReserveMode::Partial)),
        ("release", release(&["mug"])),
        ("release?", release(&["cup"])),
        ("reduce", reduce(vec![units("mug", 1)])),
        ("reduce?", reduce(vec![units("cup", 1)])),
        ("commit", commit(&["mug"])),
        ("commit?", commit(&[])),
        ("expire", expire(&["mug"], 15)),
        ("expire?", expire(&["cup"], 15)),
        ("early", expire(&["mug"], 14)),
        ("extend", extend(&["mug"], 30, 14)),
        ("extend?", extend(&["cup"], 30, 14)),
        ("no_longer", extend(&["mug"], 15, 14)),
        ("too_late", extend(&["mug"], 30, 15)),
    ]
}

#[test]
fn every_command_in_every_state() {
    check_table::<Inventory>(
        &states(),
        &commands(),
        "
        expect    *                         stock_expected
        expect0   *                         -
        receive   *                         stock_received
        adjust+8  *                         stock_adjusted
        adjust0   *                         -
        adjust-8  absent,held,committed     !insufficient_stock
        adjust-8  *                         stock_adjusted
        adjust-7  absent                    !insufficient_stock
        adjust-7  *                         stock_adjusted

        reserve   absent                    reservation_rejected
        reserve   stocked,expired           stock_reserved+reserved
        reserve   released,tombstone        reservation_rejected
        reserve   *                         -

        partial   absent                    reservation_rejected
        partial   stocked,expired           stock_reserved+partially_reserved
        partial   released,tombstone        reservation_rejected
        partial   *                         -

        release   absent,stocked,rejected   reservation_released
        release   held                      stock_released+reservation_released
        release   committed                 stock_returned+reservation_released
        release   expired                   reservation_released
        release   *                         -

        release?  absent,stocked,rejected   reservation_released
        release?  tombstone,told            -
        release?  *                         !sku_missing

        reduce    absent,stocked            !not_found
        reduce    held                      stock_released+reservation_reduced
        reduce    committed                 stock_returned+reservation_reduced
        reduce    expired                   reservation_reduced
        reduce    *                         -

        reduce?   absent,stocked            !not_found
        reduce?   *                         -

        commit    absent,stocked            !not_found
        commit    held                      stock_committed+reservation_committed
        commit    expired                   stock_reserved+stock_committed+reservation_committed
        commit    committed                 -
        commit    *                         !reservation_closed

        commit?   absent,stocked            !not_found
        commit?   rejected,tombstone,told   !reservation_closed
        commit?   *                         !sku_missing

        expire    absent,stocked            !not_found
        expire    held                      stock_released+reservation_expired
        expire    *                         -

        expire?   absent,stocked            !not_found
        expire?   rejected,tombstone,told   -
        expire?   *                         !sku_missing

        early     absent,stocked            !not_found
        early     *                         -

        extend    absent,stocked            !not_found
        extend    held                      reservation_extended
        extend    *                         -

        extend?   absent,stocked            !not_found
        extend?   rejected,tombstone,told   -
        extend?   *                         !sku_missing

        no_longer absent,stocked            !not_found
        no_longer *                         -

        too_late  absent,stocked            !not_found
        too_late  held                      stock_released+reservation_expired
        too_late  *                         -
        ",
    );
}

#[test]
fn all_or_nothing_holds_nothing_where_one_sku_is_short() {
    let stock = || [received("mug", 5), received("cup", 1)];
    let wanted = || vec![units("mug", 5), units("cup", 2), units("jug", 1)];
    let missing = || vec![short("cup", 2, 1), short("jug", 1, 0)];
    given::<Inventory>(stock())
        .when(reserve(wanted(), ReserveMode::AllOrNothing))
        .then([rejected(missing())])
        .when(reserve(vec![units("mug", 1)], ReserveMode::AllOrNothing))
        .then([]);
    given::<Inventory>(stock()).when(reserve(wanted(), ReserveMode::Partial)).then([
        held("mug", 5),
        held("cup", 1),
        Event::PartiallyReserved {
            order: order(),
            reservation: rsv(),
            units: vec![units("mug", 5), units("cup", 1)],
            short: missing(),
            expires_at: at(15),
        },
    ]);
    given::<Inventory>([]).when(reserve(wanted(), ReserveMode::Partial)).then([rejected(vec![
        short("mug", 5, 0),
        short("cup", 2, 0),
        short("jug", 1, 0),
    ])]);
}

#[test]
fn a_reservation_names_some_skus_once() {
    let check = |wanted: Vec<Units>, refusal| {
        given::<Inventory>([received("mug", 5)])
            .when(reserve(wanted, ReserveMode::AllOrNothing))
            .then_refused(refusal);
    };
    check(vec![], Refusal::Empty);
    check(vec![units("mug", 1), units("mug", 1)], Refusal::DuplicateSku(sku("mug")));
    let many = (0..=SKUS_MAX).map(|n| units(&format!("mug-{n}"), 1)).collect();
    check(many, Refusal::TooManySkus);
}

#[test]
fn the_last_units_are_promised_once() {
    let other = ReservationId::derive(order().uuid(), "other");
    let wanted = vec![units("mug", 2)];
    given::<Inventory>([received("mug", 3)])
        .when(reserve(wanted.clone(), ReserveMode::AllOrNothing))
        .then([held("mug", 2), reserved(wanted.clone())])
        .when(Command::Reserve {
            order: order(),
            reservation: other,
            units: wanted,
            mode: ReserveMode::AllOrNothing,
            expires_at: at(15),
        })
        .then([Event::ReservationRejected {
            order: order(),
            reservation: other,
            short: vec![short("mug", 2, 1)],
        }])
        .when(adjust("mug", -2))
        .then_refused(Refusal::InsufficientStock { sku: sku("mug"), free: 1 });
}

/// Race R11: the release overtakes the reservation.
#[test]
fn a_reservation_given_up_before_it_was_made_is_never_made() {
    let wanted = || reserve(vec![units("mug", 1)], ReserveMode::AllOrNothing);
    given::<Inventory>([received("mug", 3)])
        .when(release(&["mug"]))
        .then([released(vec![])])
        .when(wanted())
        .then([rejected(vec![])])
        .when(wanted())
        .then([])
        .when(release(&["mug"]))
        .then([]);
}

#[test]
fn what_is_held_may_become_less() {
    let both = || vec![units("mug", 2), units("cup", 1)];
    given::<Inventory>([received("mug", 3), received("cup", 1)])
        .when(reserve(both(), ReserveMode::AllOrNothing))
        .then([held("mug", 2), held("cup", 1), reserved(both())])
        .when(reduce(vec![units("mug", 1)]))
        .then([freed("mug", 1), reduced(vec![units("mug", 1)])])
        .when(reduce(vec![units("mug", 5), units("jug", 1)]))
        .then([freed("mug", 1), reduced(vec![units("mug", 1)])])
        .when(commit(&["mug", "cup"]))
        .then([taken("cup", 1), committed(vec![units("cup", 1)])]);
    // Of what expired nothing is held, and only the rest is taken back.
    given::<Inventory>([received("mug", 2), held("mug", 2), reserved(vec![units("mug", 2)])])
        .when(expire(&["mug"], 15))
        .then([freed("mug", 2), expired(vec![units("mug", 2)])])
        .when(reduce(vec![units("mug", 1)]))
        .then([reduced(vec![units("mug", 1)])])
        .when(commit(&["mug"]))
        .then([held("mug", 1), taken("mug", 1), committed(vec![units("mug", 1)])]);
}

#[test]
fn committed_goods_come_back_when_the_order_is_cancelled() {
    let both = || vec![units("mug", 2), units("cup", 1)];
    let history = [received("mug", 2), received("cup", 1)];
    given::<Inventory>(history)
        .when(reserve(both(), ReserveMode::AllOrNothing))
        .then([held("mug", 2), held("cup", 1), reserved(both())])
        .when(commit(&["cup", "mug"]))
        .then([taken("mug", 2), taken("cup", 1), committed(both())])
        .when(adjust("mug", -1))
        .then_refused(Refusal::InsufficientStock { sku: sku("mug"), free: 0 });
    let history = [received("mug", 2), held("mug", 2), taken("mug", 2)];
    given::<Inventory>(
        history
            .into_iter()
            .chain([reserved(vec![units("mug", 2)]), committed(vec![units("mug", 2)])]),
    )
    .when(release(&["mug"]))
    .then([returned("mug", 2), released(vec![units("mug", 2)])])
    .when(adjust("mug", -2))
    .then([adjusted("mug", -2)]);
}

/// Race R12: whoever comes too late finds the hold expired, and may hold what is left.
#[test]
fn a_hold_lasts_as_long_as_it_is_extended() {
    let three = || vec![units("mug", 3)];
    given::<Inventory>([received("mug", 4), held("mug", 3), reserved(three())])
        .when(extend(&["mug"], 30, 14))
        .then([extended(30)])
        .when(expire(&["mug"], 29))
        .then([])
        .when(extend(&["mug"], 45, 30))
        .then([freed("mug", 3), expired(three())])
        .when(extend(&["mug"], 45, 31))
        .then([])
        .when(reserve(three(), ReserveMode::AllOrNothing))
        .then([held("mug", 3), reserved(three())]);
}

/// Goods that are packed leave, also when the hold on them has run out in the meantime.
#[test]
fn an_expired_hold_is_committed_all_the_same() {
    let history = || {
        vec![
            received("mug", 5),
            held("mug", 4),
            reserved(vec![units("mug", 4)]),
            freed("mug", 4),
            expired(vec![units("mug", 4)]),
        ]
    };
    let other = ReservationId::derive(order().uuid(), "other");
    let promised = |units| Event::StockReserved {
        sku: sku("mug"),
        reservation: other,
        quantity: quantity(units),
    };
    let oversold = |units| Event::OversellRecorded {
        sku: sku("mug"),
        reservation: rsv(),
        quantity: quantity(units),
    };
    let found = |delta| Event::StockAdjusted {
        sku: sku("mug"),
        delta,
        reason: text("found while packing"),
    };
    let left = || [held("mug", 4), taken("mug", 4), committed(vec![units("mug", 4)])];

    given::<Inventory>(history()).when(commit(&["mug"])).then(left());
    // Others were promised two of the units: they will miss one.
    given::<Inventory>(history().into_iter().chain([promised(2)]))
        .when(commit(&["mug"]))
        .then([oversold(1)].into_iter().chain(left()))
        .when(adjust("mug", -1))
        .then_refused(Refusal::InsufficientStock { sku: sku("mug"), free: 0 });
    // The books know of two units, one of them promised.
    given::<Inventory>(history().into_iter().chain([adjusted("mug", -3), promised(1)]))
        .when(commit(&["mug"]))
        .then([oversold(3), found(2)].into_iter().chain(left()));
}

#[test]
fn an_expired_reservation_can_be_made_again() {
    let three = || vec![units("mug", 3)];
    given::<Inventory>([received("mug", 3), held("mug", 3), reserved(three())])
        .when(expire(&["mug"], 15))
        .then([freed("mug", 3), expired(three())])
        .when(reserve(three(), ReserveMode::AllOrNothing))
        .then([held("mug", 3), reserved(three())]);
}

#[test]
fn what_is_announced_is_to_come_until_it_is_received_under_the_same_reference() {
    let receive = |units, reference: Option<&str>| Command::Receive {
        sku: sku("mug"),
        quantity: quantity(units),
        reference: reference.map(text),
    };
    let came = |units, reference: Option<&str>| Event::StockReceived {
        sku: sku("mug"),
        quantity: quantity(units),
        reference: reference.map(text),
    };
    given::<Inventory>([expected("mug", 5, "PO-1"), expected("mug", 2, "PO-2")])
        .when(expect("mug", 5, "PO-1"))
        .then([])
        .when(receive(3, Some("PO-1")))
        .then([came(3, Some("PO-1"))])
        .when(expect("mug", 2, "PO-1"))
        .then([])
        .when(receive(9, None))
        .then([came(9, None)])
        .when(receive(9, Some("PO-1")))
        .then([came(9, Some("PO-1"))])
        .when(expect("mug", 0, "PO-1"))
        .then([])
        .when(expect("mug", 0, "PO-2"))
        .then([expected("mug", 0, "PO-2")])
        .when(expect("mug", 0, "PO-2"))
        .then([]);
    // What is to come is not there yet.
    given::<Inventory>([expected("mug", 5, "PO-1")])
        .when(reserve(vec![units("mug", 1)], ReserveMode::AllOrNothing))
        .then([rejected(vec![short("mug", 1, 0)])]);
}

#[test]
fn announcements_have_limits() {
    given::<Inventory>([])
        .when(expect("mug", Quantity::MAX + 1, "PO-1"))
        .then_refused(Refusal::TooManyExpected);
    let many = || (0..ANNOUNCED_MAX).map(|n| expected("mug", 1, &format!("PO-{n}")));
    given::<Inventory>(many())
        .when(expect("mug", 1, "one more"))
        .then_refused(Refusal::TooManyAnnounced);
    given::<Inventory>(many()).when(expect("mug", 2, "PO-0")).then([expected("mug", 2, "PO-0")]);
    given::<Inventory>(many().chain([expected("mug", 0, "PO-0")]))
        .when(expect("mug", 1, "one more"))
        .then([expected("mug", 1, "one more")]);
}

#[test]
fn more_than_can_be_counted_is_refused() {
    let delta = i32::MAX;
    given::<Inventory>([adjusted("mug", delta), adjusted("mug", delta)])
        .when(adjust("mug", 2))
        .then_refused(Refusal::StockOverflow);
    given::<Inventory>([adjusted("mug", delta), adjusted("mug", delta)])
        .when(Command::Receive { sku: sku("mug"), quantity: quantity(2), reference: None })
        .then_refused(Refusal::StockOverflow);
    given::<Inventory>([received("mug", 1)])
        .when(adjust("mug", i32::MIN))
        .then_refused(Refusal::InsufficientStock { sku: sku("mug"), free: 1 });
}

#[test]
fn codes_are_stable_names() {
    check_codes(&[
        Refusal::NotFound,
        Refusal::Empty,
        Refusal::TooManySkus,
        Refusal::DuplicateSku(sku("mug")),
        Refusal::SkuMissing(sku("mug")),
        Refusal::InsufficientStock { sku: sku("mug"), free: 0 },
        Refusal::StockOverflow,
        Refusal::ReservationClosed,
        Refusal::TooManyExpected,
        Refusal::TooManyAnnounced,
    ]);
}

const SKUS: [&str; 3] = ["mug", "cup", "jug"];

fn any_reservation() -> impl Strategy<Value = ReservationId> {
    (0_u8..4).prop_map(|n| ReservationId::derive(order().uuid(), &n.to_string()))
}

fn any_sku() -> impl Strategy<Value = Sku> {
    prop::sample::select(&SKUS[..]).prop_map(sku)
}

fn any_skus() -> impl Strategy<Value = Vec<Sku>> {
    let all = SKUS.iter().copied().map(sku).collect();
    prop_oneof![6 => Just(all), 1 => prop::collection::vec(any_sku(), 0..2)]
}

fn any_units() -> impl Strategy<Value = Vec<Units>> {
    let units = (any_sku(), 1_u32..6);
    let distinct = prop::collection::btree_map(any_sku(), 1_u32..6, 1..=SKUS.len())
        .prop_map(Vec::from_iter)
        .boxed();
    prop_oneof![8 => distinct, 1 => prop::collection::vec(units, 0..3)].prop_map(|units| {
        let units = units.into_iter();
        units.map(|(sku, units)| Units { sku, quantity: quantity(units) }).collect()
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let order = order();
    let mode = prop_oneof![Just(ReserveMode::AllOrNothing), Just(ReserveMode::Partial)];
    let delta = prop_oneof![8 => -6_i32..6, 1 => prop::sample::select(&[i32::MIN, i32::MAX][..])];
    let reference = prop::sample::select(&["PO-1", "PO-2"][..]).prop_map(text);
    prop_oneof![
        1 => (any_sku(), 0_u32..6, reference.clone()).prop_map(|(sku, quantity, reference)| {
            Command::Expect { sku, quantity, reference }
        }),
        2 => (any_sku(), 1_u32..6, prop::option::of(reference)).prop_map(
            |(sku, units, reference)| Command::Receive {
                sku,
                quantity: quantity(units),
                reference,
            }
        ),
        1 => (any_sku(), delta).prop_map(|(sku, delta)| Command::Adjust {
            sku,
            delta,
            reason: text("counted"),
        }),
        4 => (any_reservation(), any_units(), mode).prop_map(move |(reservation, units, mode)| {
            Command::Reserve { order, reservation, units, mode, expires_at: at(15) }
        }),
        2 => (any_reservation(), any_skus())
            .prop_map(move |(reservation, skus)| Command::Release { order, reservation, skus }),
        2 => (any_reservation(), any_units())
            .prop_map(move |(reservation, units)| Command::Reduce { order, reservation, units }),
        3 => (any_reservation(), any_skus())
            .prop_map(move |(reservation, skus)| Command::Commit { order, reservation, skus }),
        2 => (any_reservation(), any_skus(), 13_i64..17, 14_i64..32).prop_map(
            move |(reservation, skus, minutes, until)| Command::Extend {
                order,
                reservation,
                skus,
                until: at(until),
                at: at(minutes),
            }
        ),
        2 => (any_reservation(), any_skus(), 13_i64..17).prop_map(
            move |(reservation, skus, minutes)| Command::Expire {
                order,
                reservation,
                skus,
                at: at(minutes),
            }
        ),
    ]
}

/// Two deliveries of one size are two deliveries, and so is what is given back.
const fn repeatable(command: &Command) -> bool {
    !matches!(command, Command::Receive { .. } | Command::Adjust { .. } | Command::Reduce { .. })
}

/// What a history says of a sku: on hand, reserved, and units that were oversold.
fn books(history: &[Event], of: &Sku) -> (i64, i64, i64) {
    let (mut on_hand, mut reserved, mut oversold) = (0, 0, 0);
    for event in history {
        match event {
            Event::StockReceived { sku, quantity, .. }
            | Event::StockReturned { sku, quantity, .. }
                if sku == of =>
            {
                on_hand += i64::from(quantity.get());
            }
            Event::StockAdjusted { sku, delta, .. } if sku == of => on_hand += i64::from(*delta),
            Event::StockReserved { sku, quantity, .. } if sku == of => {
                reserved += i64::from(quantity.get());
            }
            Event::StockReleased { sku, quantity, .. } if sku == of => {
                reserved -= i64::from(quantity.get());
            }
            Event::StockCommitted { sku, quantity, .. } if sku == of => {
                on_hand -= i64::from(quantity.get());
                reserved -= i64::from(quantity.get());
            }
            Event::OversellRecorded { sku, quantity, .. } if sku == of => {
                oversold += i64::from(quantity.get());
            }
            _ => {}
        }
    }
    (on_hand, reserved, oversold)
}

proptest! {
    /// Nothing is lost, nothing is made up: what is on hand is what came in less what left, what
    /// is promised is what the live reservations hold, and more is promised than there is only
    /// by so much as an oversell has recorded.
    #[test]
    fn any_life_conserves_the_stock(commands in prop::collection::vec(any_command(), 0..40)) {
        live::<Inventory>(&commands, repeatable, |inventory, history| {
            for sku in SKUS.iter().copied().map(sku) {
                let stock = inventory.stock(&sku);
                let (on_hand, reserved, oversold) = books(history, &sku);
                assert_eq!((i64::from(stock.on_hand), i64::from(stock.reserved)), (on_hand, reserved));
                assert!(on_hand >= 0 && reserved >= 0 && reserved <= on_hand + oversold);
                let live = inventory.reservations.values().filter(|held| held.status == Status::Held);
                let held = live.flat_map(|held| &held.units).filter(|units| units.sku == sku);
                let held: i64 = held.map(|units| i64::from(units.quantity.get())).sum();
                assert_eq!(held, reserved);
            }
        });
    }

    /// As the store does it: each stream is folded by itself, and a command sees only those that
    /// it names. Nothing happens to any other, and the answers are those of the whole.
    #[test]
    fn streams_can_be_folded_apart(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut whole = Inventory::default();
        let mut apart = BTreeMap::<StreamId, Inventory>::new();
        for command in &commands {
            let streams = command.streams();
            let states = streams.iter().map(|stream| apart.get(stream).cloned().unwrap_or_default());
            let joined = states.reduce(Inventory::join).unwrap_or_default();
            let answer = joined.decide(command);
            prop_assert_eq!(&answer, &whole.decide(command));
            for event in answer.unwrap_or_default() {
                let stream = Inventory::stream_of(&event).expect("every event names its stream");
                prop_assert!(streams.contains(&stream));
                let state = apart.remove(&stream).unwrap_or_default();
                apart.insert(stream, state.evolve(&event));
                whole = whole.evolve(&event);
            }
        }
    }

    #[test]
    fn a_snapshot_at_any_cut_folds_on_to_the_same(commands in prop::collection::vec(any_command(), 0..40)) {
        check_snapshots::<Inventory>(&live::<Inventory>(&commands, repeatable, |_, _| {}));
    }
}
