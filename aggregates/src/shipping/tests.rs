//! Shipping: every command in every state, and the laws.

use proptest::prelude::*;
use schemas::inventory::Units;

use super::*;
use crate::given::{Named, check_codes, check_snapshots, check_table, given, live};
use crate::sample::{address, at, order, sku, text, units};

fn create(units: Vec<Units>) -> Command {
    Command::Create { order: order(), units, address: address() }
}

fn label(name: &str) -> Command {
    Command::RecordLabel { carrier_ref: text(name), tracking_code: text("T1") }
}

fn scan(carrier_event: &str, scan: Scan, minutes: i64) -> Command {
    Command::RecordScan { carrier_event: text(carrier_event), scan, at: at(minutes) }
}

fn trouble(carrier_event: &str, trouble: Trouble) -> Command {
    Command::RecordTrouble { carrier_event: text(carrier_event), trouble, at: at(4) }
}

fn cancel() -> Command {
    Command::Cancel { order: order() }
}

fn created() -> Event {
    Event::Created { order: order(), units: vec![units("mug", 1)], address: address() }
}

/// Two mugs and a tea.
fn ordered() -> Event {
    let units = vec![units("mug", 2), units("tea", 1)];
    Event::Created { order: order(), units, address: address() }
}

fn short(missing: &[(&str, u32)]) -> Command {
    Command::ReportShort { short: missing.iter().map(|(sku, count)| units(sku, *count)).collect() }
}

fn hold() -> Command {
    Command::Hold { order: order() }
}

fn held() -> Event {
    Event::Held { order: order() }
}

fn packed() -> Event {
    let shipment = order().fulfilment().shipment();
    Event::Packed { order: order(), shipment, address: address() }
}

fn released() -> Event {
    Event::Released { order: order() }
}

fn bought() -> Event {
    Event::LabelBought { order: order(), carrier_ref: text("shp_1"), tracking_code: text("T1") }
}

fn handed_over(inferred: bool) -> Event {
    Event::HandedOver {
        order: order(),
        carrier_ref: text("shp_1"),
        tracking_code: text("T1"),
        inferred,
    }
}

fn scanned(carrier_event: &str, scan: Scan, minutes: i64) -> Event {
    Event::Scanned { order: order(), carrier_event: text(carrier_event), scan, at: at(minutes) }
}

fn delivered(minutes: i64) -> Event {
    Event::Delivered { order: order(), at: at(minutes) }
}

fn cancelled() -> Event {
    Event::Cancelled { order: order() }
}

fn give_back(name: &str) -> Event {
    Event::LabelVoidRequested { order: order(), carrier_ref: text(name) }
}

fn states() -> Named<Vec<Event>> {
    let ready = || vec![created(), packed(), released(), bought()];
    let with = |mut history: Vec<Event>, more: Vec<Event>| {
        history.extend(more);
        history
    };
    let seen = || vec![scanned("e0", Scan::Delivered, 9), delivered(9)];
    vec![
        ("absent", vec![]),
        ("open", vec![created()]),
        ("open/released", vec![created(), released()]),
        ("held", vec![created(), held()]),
        ("packed", vec![created(), packed()]),
        ("ready/held", with(ready(), vec![held()])),
        ("labelled", vec![created(), packed(), bought()]),
        ("released", vec![created(), packed(), released()]),
        ("ready", ready()),
        ("gone", with(ready(), vec![handed_over(false)])),
        ("arrived", with(with(ready(), vec![handed_over(false)]), seen())),
        ("unpaid", vec![created(), packed(), bought(), handed_over(true)]),
        ("cancelled", vec![created(), packed(), cancelled()]),
        ("voiding", with(ready(), vec![cancelled(), give_back("shp_1")])),
        ("awaited", vec![held()]),
        ("tombstone", vec![cancelled()]),
        ("told", vec![cancelled(), cancelled()]),
    ]
}

fn commands() -> Named<Command> {
    vec![
        ("create", create(vec![units("mug", 1)])),
        ("short", short(&[("mug", 1)])),
        ("hold", hold()),
        ("resume", Command::Resume),
        ("pack", Command::Pack),
        ("release", Command::ReleaseForHandover),
        ("hand_over", Command::HandOver),
        ("label", label("shp_1")),
        ("label2", label("shp_2")),
        ("no_label", Command::RecordLabelRejected { code: text("no_service") }),
        ("voided", Command::RecordLabelVoided),
        ("announced", scan("e1", Scan::PreTransit, 1)),
        ("in_transit", scan("e2", Scan::InTransit, 2)),
        ("delivered", scan("e3", Scan::Delivered, 3)),
        ("e0", scan("e0", Scan::Delivered, 9)),
        ("lost", trouble("e4", Trouble::Lost)),
        ("lost/e0", trouble("e0", Trouble::Lost)),
        ("cancel", cancel()),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table on one page")]
fn every_command_in_every_state() {
    check_table::<Shipping>(
        &states(),
        &commands(),
        "
        create      absent,awaited                   created
        create      tombstone                        cancelled
        create      *                                -

        short       absent,awaited                   !not_found
        short       open,open/released,held          short_picked+cancelled
        short       cancelled,voiding,tombstone,told !cancelled
        short       *                                !already_packed

        hold        absent,open,open/released        held
        hold        packed,labelled,released,ready   held
        hold        *                                -

        resume      absent                           !not_found
        resume      held,ready/held,awaited          resumed
        resume      *                                -

        pack        absent,awaited                   !not_found
        pack        open,open/released               packed
        pack        held                             !on_hold
        pack        cancelled,voiding,tombstone,told !cancelled
        pack        *                                -

        release     absent                           !not_found
        release     open,packed,labelled,unpaid      released
        release     held,awaited                     released
        release     *                                -

        hand_over   absent                           !not_found
        hand_over   open,open/released,held,awaited  !not_packed
        hand_over   ready/held                       !on_hold
        hand_over   packed,labelled                  !not_released
        hand_over   released                         !no_label
        hand_over   ready                            handed_over
        hand_over   gone,arrived,unpaid              -
        hand_over   *                                !cancelled

        label       absent                           !not_found
        label       open,open/released               label_bought
        label       packed,released,held,awaited     label_bought
        label       cancelled,tombstone,told         label_void_requested
        label       *                                -

        label2      absent                           !not_found
        label2      open,open/released               label_bought
        label2      packed,released,held,awaited     label_bought
        label2      *                                label_void_requested

        no_label    absent                           !not_found
        no_label    open,open/released               label_rejected
        no_label    packed,released,held,awaited     label_rejected
        no_label    *                                -

        voided      absent                           !not_found
        voided      voiding                          label_voided
        voided      *                                -

        announced   absent                           !not_found
        announced   *                                scanned

        in_transit  absent                           !not_found
        in_transit  labelled,ready,ready/held        handed_over+scanned
        in_transit  *                                scanned

        delivered   absent                           !not_found
        delivered   labelled,ready,ready/held        handed_over+scanned+delivered
        delivered   gone,unpaid                      scanned+delivered
        delivered   *                                scanned

        e0          absent                           !not_found
        e0          labelled,ready,ready/held        handed_over+scanned+delivered
        e0          gone,unpaid                      scanned+delivered
        e0          arrived                          -
        e0          *                                scanned

        lost        absent                           !not_found
        lost        labelled,ready,ready/held        handed_over+trouble_reported
        lost        *                                trouble_reported

        lost/e0     absent                           !not_found
        lost/e0     labelled,ready,ready/held        handed_over+trouble_reported
        lost/e0     arrived                          -
        lost/e0     *                                trouble_reported

        cancel      absent                           cancelled
        cancel      open,open/released               cancelled
        cancel      packed,released,held,awaited     cancelled
        cancel      labelled,ready,ready/held        cancelled+label_void_requested
        cancel      gone,arrived,unpaid              cancel_rejected
        cancel      *                                -
        ",
    );
}

#[test]
fn a_parcel_goes_its_way() {
    given::<Shipping>([])
        .when(create(vec![units("mug", 1)]))
        .then([created()])
        .when(Command::Pack)
        .then([packed()])
        .when(label("shp_1"))
        .then([bought()])
        .when(Command::ReleaseForHandover)
        .then([released()])
        .when(Command::HandOver)
        .then([handed_over(false)])
        .when(scan("e1", Scan::PreTransit, 1))
        .then([scanned("e1", Scan::PreTransit, 1)])
        .when(scan("e2", Scan::OutForDelivery, 2))
        .then([scanned("e2", Scan::OutForDelivery, 2)])
        .when(scan("e3", Scan::Delivered, 3))
        .then([scanned("e3", Scan::Delivered, 3), delivered(3)]);
}

#[test]
fn nothing_is_not_sent() {
    given::<Shipping>([]).when(create(vec![])).then_refused(Refusal::Empty);
}

/// Race R18: the delivery is heard of before the hand-over. Older scans that come later are
/// kept, and the parcel does not go backwards.
#[test]
fn a_delivery_before_the_hand_over_gives_it_away() {
    given::<Shipping>([created(), packed(), released(), bought()])
        .when(scan("e3", Scan::Delivered, 3))
        .then([handed_over(true), scanned("e3", Scan::Delivered, 3), delivered(3)])
        .when(scan("e2", Scan::InTransit, 2))
        .then([scanned("e2", Scan::InTransit, 2)])
        .when(scan("e2", Scan::InTransit, 2))
        .then([])
        .when(scan("e4", Scan::Delivered, 4))
        .then([scanned("e4", Scan::Delivered, 4)])
        .when(Command::HandOver)
        .then([]);
}

#[test]
fn a_scan_before_the_label_counts_when_the_label_arrives() {
    given::<Shipping>([created(), packed(), released()])
        .when(scan("e3", Scan::Delivered, 3))
        .then([scanned("e3", Scan::Delivered, 3)])
        .when(cancel())
        .then([Event::CancelRejected { order: order() }])
        .when(cancel())
        .then([])
        .when(label("shp_1"))
        .then([bought(), handed_over(true), delivered(3)]);
    given::<Shipping>([created(), packed()])
        .when(scan("e1", Scan::PreTransit, 1))
        .then([scanned("e1", Scan::PreTransit, 1)])
        .when(label("shp_1"))
        .then([bought()]);
}

/// Somebody has to look for the parcel, so the scan is kept; that it arrived would be read as
/// the end of an order that has been cancelled.
#[test]
fn a_scan_of_something_cancelled_is_kept_and_moves_nothing() {
    given::<Shipping>([created(), packed(), released(), bought()])
        .when(cancel())
        .then([cancelled(), give_back("shp_1")])
        .when(scan("e3", Scan::Delivered, 3))
        .then([scanned("e3", Scan::Delivered, 3)])
        .when(cancel())
        .then([]);
}

#[test]
fn a_label_that_nobody_needs_is_given_back_once() {
    let voided = || Event::LabelVoided { order: order() };
    given::<Shipping>([created(), packed()])
        .when(cancel())
        .then([cancelled()])
        .when(label("shp_1"))
        .then([give_back("shp_1")])
        .when(label("shp_1"))
        .then([])
        .when(Command::RecordLabelVoided)
        .then([voided()])
        .when(Command::RecordLabelVoided)
        .then([])
        .when(label("shp_2"))
        .then([give_back("shp_2")])
        .when(Command::RecordLabelVoided)
        .then([voided()]);
}

#[test]
fn a_carrier_may_refuse_for_several_reasons() {
    let refused = |code| Event::LabelRejected { order: order(), code: text(code) };
    let refuse = |code| Command::RecordLabelRejected { code: text(code) };
    given::<Shipping>([created(), packed()])
        .when(refuse("no_service"))
        .then([refused("no_service")])
        .when(refuse("no_service"))
        .then([])
        .when(refuse("bad_address"))
        .then([refused("bad_address")])
        .when(label("shp_1"))
        .then([bought()]);
}

#[test]
fn what_is_not_on_the_shelf_is_not_sent() {
    let picked = |short, left| Event::ShortPicked { order: order(), short, left };
    let rest = || vec![units("mug", 1), units("tea", 1)];
    let begun = || {
        given::<Shipping>([ordered()])
            .when(short(&[("mug", 1)]))
            .then([picked(vec![units("mug", 1)], rest())])
    };
    begun().when(short(&[("mug", 2)])).then_refused(Refusal::NotToBeSent(sku("mug")));
    begun().when(short(&[("jug", 1)])).then_refused(Refusal::NotToBeSent(sku("jug")));
    let twice = short(&[("tea", 1), ("tea", 1)]);
    begun().when(twice).then_refused(Refusal::DuplicateSku(sku("tea")));
    begun().when(short(&[])).then_refused(Refusal::Empty);
    begun()
        .when(short(&[("tea", 1)]))
        .then([picked(vec![units("tea", 1)], vec![units("mug", 1)])])
        .when(short(&[("mug", 1)]))
        .then([picked(vec![units("mug", 1)], vec![]), cancelled()]);
}

#[test]
fn nothing_on_hold_is_packed_or_leaves() {
    given::<Shipping>([created(), held()]).when(Command::Pack).then_refused(Refusal::OnHold);
    given::<Shipping>([created()])
        .when(hold())
        .then([held()])
        .when(Command::Resume)
        .then([Event::Resumed { order: order() }])
        .when(Command::Pack)
        .then([packed()]);
    // The carrier may have it all the same.
    let ready = || given::<Shipping>([created(), packed(), released(), bought(), held()]);
    ready().when(Command::HandOver).then_refused(Refusal::OnHold);
    ready()
        .when(scan("e1", Scan::InTransit, 1))
        .then([handed_over(true), scanned("e1", Scan::InTransit, 1)]);
}

/// Undo before do: the cancellation overtakes the creation.
#[test]
fn what_was_cancelled_before_it_was_created_is_never_created() {
    given::<Shipping>([])
        .when(cancel())
        .then([cancelled()])
        .when(create(vec![units("mug", 1)]))
        .then([cancelled()])
        .when(create(vec![units("mug", 1)]))
        .then([])
        .when(cancel())
        .then([]);
}

/// A parcel that was lost may still be found, and one that nobody has a label for has left.
#[test]
fn what_goes_wrong_on_the_way_is_kept_beside_it() {
    let lost = || Event::TroubleReported {
        order: order(),
        carrier_event: text("e1"),
        trouble: Trouble::Lost,
        at: at(4),
    };
    given::<Shipping>([created(), packed(), released(), bought()])
        .when(trouble("e1", Trouble::Lost))
        .then([handed_over(true), lost()])
        .when(trouble("e1", Trouble::Lost))
        .then([])
        .when(cancel())
        .then([Event::CancelRejected { order: order() }])
        .when(scan("e2", Scan::Delivered, 9))
        .then([scanned("e2", Scan::Delivered, 9), delivered(9)]);
    given::<Shipping>([created(), packed()])
        .when(trouble("e1", Trouble::Lost))
        .then([lost()])
        .when(label("shp_1"))
        .then([bought(), handed_over(true)]);
}

#[test]
fn codes_are_stable_names() {
    check_codes(&[
        Refusal::NotFound,
        Refusal::Empty,
        Refusal::Cancelled,
        Refusal::OnHold,
        Refusal::NotToBeSent(sku("mug")),
        Refusal::DuplicateSku(sku("mug")),
        Refusal::AlreadyPacked,
        Refusal::NotPacked,
        Refusal::NotReleased,
        Refusal::NoLabel,
    ]);
}

fn any_command() -> impl Strategy<Value = Command> {
    let scans = [Scan::PreTransit, Scan::InTransit, Scan::OutForDelivery, Scan::Delivered];
    let name = |prefix: &'static str| (0_u8..4).prop_map(move |n| text(&format!("{prefix}{n}")));
    prop_oneof![
        2 => prop::collection::vec(Just(units("mug", 1)), 0..3).prop_map(create),
        2 => Just(Command::Pack),
        2 => Just(Command::ReleaseForHandover),
        2 => Just(Command::HandOver),
        3 => name("shp_").prop_map(|carrier_ref| Command::RecordLabel {
            carrier_ref,
            tracking_code: text("T1"),
        }),
        1 => name("code").prop_map(|code| Command::RecordLabelRejected { code }),
        1 => Just(Command::RecordLabelVoided),
        2 => name("e").prop_map(|carrier_event| Command::RecordTrouble {
            carrier_event,
            trouble: Trouble::Lost,
            at: at(4),
        }),
        4 => (name("e"), prop::sample::select(scans.to_vec()), 0_i64..9).prop_map(
            |(carrier_event, scan, minutes)| Command::RecordScan {
                carrier_event,
                scan,
                at: at(minutes),
            }
        ),
        1 => Just(cancel()),
        1 => Just(short(&[("mug", 1)])),
        1 => Just(hold()),
        2 => Just(Command::Resume),
    ]
}

/// Two units that are missing are two facts.
const fn repeatable(command: &Command) -> bool {
    !matches!(command, Command::ReportShort { .. })
}

proptest! {
    /// It leaves once and arrives once, with a label, and never after it was cancelled; every
    /// notice of the carrier is kept once.
    #[test]
    fn any_life_leads_one_way(commands in prop::collection::vec(any_command(), 0..40)) {
        let history = live::<Shipping>(&commands, repeatable, |_, _| {});
        let place = |is: fn(&Event) -> bool| {
            let places = history.iter().enumerate().filter(|(_, event)| is(event));
            places.map(|(place, _)| place).collect::<Vec<_>>()
        };
        let left = place(|event| matches!(event, Event::HandedOver { .. }));
        let arrived = place(|event| matches!(event, Event::Delivered { .. }));
        let bought = place(|event| matches!(event, Event::LabelBought { .. }));
        let cancelled = place(|event| matches!(event, Event::Cancelled { .. }));
        prop_assert!(left.len() <= 1 && arrived.len() <= 1 && bought.len() <= 1);
        prop_assert!(arrived.is_empty() || left < arrived, "it leaves before it arrives");
        prop_assert!(left.is_empty() || bought < left, "it leaves with a label");
        prop_assert!(left.is_empty() || cancelled.is_empty(), "it leaves or it is cancelled");
        let mut notices = BTreeSet::new();
        for event in &history {
            if let Event::Scanned { carrier_event, .. } = event {
                prop_assert!(notices.insert(carrier_event.clone()), "a notice is kept once");
            }
        }
        let paid = place(|event| matches!(event, Event::Released { .. }));
        for (place, event) in history.iter().enumerate() {
            if let Event::HandedOver { inferred: false, .. } = event {
                prop_assert!(paid.iter().any(|paid| *paid < place), "it is paid for");
            }
        }
    }

    #[test]
    fn a_snapshot_at_any_cut_folds_on_to_the_same(commands in prop::collection::vec(any_command(), 0..40)) {
        check_snapshots::<Shipping>(&live::<Shipping>(&commands, repeatable, |_, _| {}));
    }
}
