//! One row per fulfilment order: what is sent, and where it is.

use schemas::inventory::Units;
use schemas::shipping::{Event, Scan, Trouble};
use schemas::{
    Address, Category, Fact, FulfilmentId, OrderId, Personal, Recorded, ShipmentId, Timestamp,
};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row::{AsText, Row as _};
use crate::walk::{self, List, Only, Part, Place, Placed};
use crate::words::words;

words! {
    /// Where the goods are.
    pub enum Status {
        /// To be packed.
        Open = "open",
        /// Packed.
        Packed = "packed",
        /// The carrier has them.
        HandedOver = "handed_over",
        /// On their way.
        InTransit = "in_transit",
        /// On the van.
        OutForDelivery = "out_for_delivery",
        /// With the customer.
        Delivered = "delivered",
        /// Something went wrong that the carrier may mend.
        Exception = "exception",
        /// The carrier does not find them any more, or they are broken.
        Lost = "lost",
        /// They come back to us.
        Returned = "returned",
        /// They will not be sent.
        Cancelled = "cancelled",
    }
}

words! {
    /// What became of the label.
    pub enum Label {
        /// None yet.
        None = "none",
        /// Bought.
        Bought = "bought",
        /// The carrier will not take the parcel.
        Rejected = "rejected",
        /// To be given back.
        Voiding = "voiding",
        /// Given back.
        Voided = "voided",
    }
}

/// What the carrier saw, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sighting {
    /// What.
    pub scan: Scan,
    /// When.
    pub at: Timestamp,
}

crate::table! {
    /// A fulfilment order with its one parcel.
    pub struct Row {
        /// The fulfilment order.
        fulfilment_id: Uuid,
        /// The parcel.
        shipment_id: Uuid,
        /// For which order.
        order_id: Uuid,
        /// Where the goods are.
        status: AsText<Status>,
        /// Whether they may go: they are paid for.
        released: bool,
        /// Whether it waits.
        on_hold: bool,
        /// What is sent.
        units: Json<Vec<Units>>,
        /// What was not on the shelf, one report after the other.
        short: Json<Vec<Units>>,
        /// Where it goes, sealed.
        address: Option<Json<Personal<Address>>>,
        /// The carrier's id of the shipment.
        carrier_ref: Option<String>,
        /// The number to follow it with.
        tracking_code: Option<String>,
        /// What became of the label.
        label: AsText<Label>,
        /// What the carrier saw, in the order in which it told us.
        scans: Json<Vec<Sighting>>,
        /// When it was packed.
        packed_at: Option<Timestamp>,
        /// When the carrier took it.
        handed_over_at: Option<Timestamp>,
        /// When it arrived, by the carrier's word.
        delivered_at: Option<Timestamp>,
        /// When its first event was recorded.
        opened_at: Timestamp,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its stream.
        version: i64,
    }
}

impl Row {
    /// The fulfilment order's id.
    #[must_use]
    pub const fn id(&self) -> FulfilmentId {
        FulfilmentId::new(self.fulfilment_id)
    }

    /// The parcel's id.
    #[must_use]
    pub const fn shipment(&self) -> ShipmentId {
        ShipmentId::new(self.shipment_id)
    }

    /// The order that is sent.
    #[must_use]
    pub const fn order(&self) -> OrderId {
        OrderId::new(self.order_id)
    }

    fn opened(key: Uuid, order: OrderId, at: Timestamp) -> Self {
        Self {
            fulfilment_id: key,
            shipment_id: FulfilmentId::new(key).shipment().uuid(),
            order_id: order.uuid(),
            status: AsText(Status::Open),
            released: false,
            on_hold: false,
            units: Json(Vec::new()),
            short: Json(Vec::new()),
            address: None,
            carrier_ref: None,
            tracking_code: None,
            label: AsText(Label::None),
            scans: Json(Vec::new()),
            packed_at: None,
            handed_over_at: None,
            delivered_at: None,
            opened_at: at,
            updated_at: at,
            version: 0,
        }
    }

    fn note(&mut self, fact: &Event, at: Timestamp) {
        match fact {
            Event::Created { units, address, .. } => {
                self.units = Json(units.clone());
                self.address = Some(Json(address.clone()));
            }
            Event::Packed { shipment, address, .. } => {
                self.shipment_id = shipment.uuid();
                self.address = Some(Json(address.clone()));
                self.status = AsText(Status::Packed);
                self.packed_at = Some(at);
            }
            Event::ShortPicked { short, left, .. } => {
                self.units = Json(left.clone());
                self.short.0.extend_from_slice(short);
            }
            Event::Held { .. } => self.on_hold = true,
            Event::Resumed { .. } => self.on_hold = false,
            Event::Released { .. } => self.released = true,
            Event::LabelBought { carrier_ref, tracking_code, .. } => {
                self.carrier_ref = Some(carrier_ref.to_string());
                self.tracking_code = Some(tracking_code.to_string());
                self.label = AsText(Label::Bought);
            }
            Event::LabelRejected { .. } => self.label = AsText(Label::Rejected),
            Event::HandedOver { carrier_ref, tracking_code, .. } => {
                self.carrier_ref = Some(carrier_ref.to_string());
                self.tracking_code = Some(tracking_code.to_string());
                self.status = AsText(Status::HandedOver);
                self.handed_over_at = Some(at);
            }
            Event::Scanned { scan, at, .. } => {
                self.scans.0.push(Sighting { scan: *scan, at: *at });
                self.see(*scan);
            }
            Event::TroubleReported { trouble, .. } => self.suffer(*trouble),
            Event::Delivered { at, .. } => {
                self.status = AsText(Status::Delivered);
                self.delivered_at = Some(*at);
            }
            Event::Cancelled { .. } => self.status = AsText(Status::Cancelled),
            Event::CancelRejected { .. } => {}
            Event::LabelVoidRequested { carrier_ref, .. } => {
                self.carrier_ref = Some(carrier_ref.to_string());
                self.label = AsText(Label::Voiding);
            }
            Event::LabelVoided { .. } => self.label = AsText(Label::Voided),
        }
    }

    /// A scan moves the parcel forward only.
    fn see(&mut self, scan: Scan) {
        let seen = match scan {
            Scan::PreTransit => return,
            Scan::InTransit => Status::InTransit,
            Scan::OutForDelivery => Status::OutForDelivery,
            Scan::Delivered => Status::Delivered,
        };
        let rank = |status| Status::ALL.iter().position(|known| *known == status);
        let mended = self.status.0 == Status::Exception;
        if mended || rank(seen) > rank(self.status.0) {
            self.status = AsText(seen);
        }
    }

    fn suffer(&mut self, trouble: Trouble) {
        if matches!(self.status.0, Status::Delivered | Status::Cancelled) {
            return;
        }
        self.status = AsText(match trouble {
            Trouble::Exception => Status::Exception,
            Trouble::Lost => Status::Lost,
            Trouble::Returned => Status::Returned,
        });
    }
}

/// Where everything is.
#[derive(Debug)]
pub struct ShipmentTracking;

impl Projection for ShipmentTracking {
    const NAME: &'static str = "shipment_tracking";
    const VERSION: u16 = 4;
    const CATEGORIES: &'static [Category] = &[Category::Shipping];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match event.fact {
            Fact::Shipping(_) => Keys::One(event.stream.id),
            _ => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Shipping(fact) = &event.fact else { return row };
        let mut row = row.unwrap_or_else(|| Row::opened(key, fact.order(), event.recorded_at));
        row.note(fact, event.occurred_at);
        Some(Row { version: event.version, updated_at: event.recorded_at, ..row })
    }
}

impl Placed for Row {
    fn place(&self) -> Place {
        (self.opened_at, self.fulfilment_id)
    }
}

/// The fulfilment orders of `part` in one of `statuses`, by the time at which they were opened; in
/// any, where there are none.
///
/// # Errors
/// Where the database is away.
pub async fn list(
    pool: &PgPool,
    statuses: &[Status],
    part: &Part,
) -> Result<Vec<Row>, sqlx::Error> {
    walk::read(pool, list_query(statuses, part)).await
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(statuses: &[Status], part: &Part) -> QueryBuilder<Postgres> {
    const SHIPMENTS: List = List {
        prefix: "",
        from: "read_models.shipment_tracking",
        time: "opened_at",
        id: "fulfilment_id",
    };
    SHIPMENTS.query::<Row>(&[], &Only::any("status", statuses), part)
}

/// What is sent for an order.
///
/// # Errors
/// Where the database is away.
pub async fn of_order(pool: &PgPool, order: OrderId) -> Result<Vec<Row>, sqlx::Error> {
    walk::read(pool, of_order_query(order)).await
}

/// What [`of_order`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn of_order_query(order: OrderId) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select ");
    query.push(Row::COLUMNS.join(", ")).push(" from read_models.shipment_tracking");
    query.push(" where order_id = ").push_bind(order.uuid()).push(" order by fulfilment_id");
    query
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::given::{address, given, order_id};

    fn created() -> Event {
        let quantity = schemas::Quantity::new(2).unwrap();
        let units = vec![Units { sku: "mug".parse().unwrap(), quantity }];
        Event::Created { order: order_id(), units, address: address() }
    }

    fn packed() -> Event {
        let shipment = order_id().fulfilment().shipment();
        Event::Packed { order: order_id(), shipment, address: address() }
    }

    fn handed_over() -> Event {
        Event::HandedOver {
            order: order_id(),
            carrier_ref: "shp_1".parse().unwrap(),
            tracking_code: "T1".parse().unwrap(),
            inferred: false,
        }
    }

    fn scanned(scan: Scan) -> Event {
        let carrier_event = "evt_1".parse().unwrap();
        Event::Scanned { order: order_id(), carrier_event, scan, at: DateTime::UNIX_EPOCH }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Row {
        given::<ShipmentTracking>(events.into_iter().map(Fact::Shipping)).one()
    }

    #[test]
    fn a_parcel_goes_from_packed_to_delivered() {
        let at = DateTime::UNIX_EPOCH;
        let row = after([
            created(),
            packed(),
            Event::Released { order: order_id() },
            handed_over(),
            scanned(Scan::InTransit),
            Event::Delivered { order: order_id(), at },
        ]);
        assert_eq!((row.status.0, row.released, row.version), (Status::Delivered, true, 6));
        assert_eq!(row.tracking_code.as_deref(), Some("T1"));
        assert_eq!((row.scans.0.len(), row.units.0.len()), (1, 1));
        assert_eq!(row.delivered_at, Some(at));
        assert!(row.opened_at < row.packed_at.unwrap());
    }

    #[test]
    fn a_parcel_waits_and_leaves_with_less() {
        let units = |quantity| {
            let quantity = schemas::Quantity::new(quantity).unwrap();
            vec![Units { sku: "mug".parse().unwrap(), quantity }]
        };
        let order = order_id();
        let short = Event::ShortPicked { order, short: units(1), left: units(1) };
        let row = after([created(), Event::Held { order }, short.clone()]);
        assert_eq!((row.on_hold, row.units.0, row.short.0), (true, units(1), units(1)));
        assert!(!after([created(), Event::Held { order }, Event::Resumed { order }]).on_hold);
    }

    #[test]
    fn an_earlier_scan_told_later_changes_nothing() {
        let scans = [Scan::OutForDelivery, Scan::InTransit, Scan::PreTransit].map(scanned);
        let row = after([created(), packed(), handed_over()].into_iter().chain(scans));
        assert_eq!((row.status.0, row.scans.0.len()), (Status::OutForDelivery, 3));
    }

    #[test]
    fn a_parcel_in_trouble_may_still_arrive() {
        let on_its_way = || [created(), packed(), handed_over(), scanned(Scan::InTransit)];
        let trouble = |trouble| {
            let carrier_event = "evt_2".parse().unwrap();
            let (order, at) = (order_id(), DateTime::UNIX_EPOCH);
            Event::TroubleReported { order, carrier_event, trouble, at }
        };
        let status = |events: &[Event]| {
            after(on_its_way().into_iter().chain(events.iter().cloned())).status.0
        };
        let late = scanned(Scan::InTransit);
        let arrived = Event::Delivered { order: order_id(), at: DateTime::UNIX_EPOCH };
        assert_eq!(status(&[trouble(Trouble::Exception)]), Status::Exception);
        assert_eq!(status(&[trouble(Trouble::Exception), late.clone()]), Status::InTransit);
        assert_eq!(status(&[trouble(Trouble::Lost), late]), Status::Lost);
        assert_eq!(status(&[trouble(Trouble::Returned)]), Status::Returned);
        assert_eq!(status(&[trouble(Trouble::Lost), arrived.clone()]), Status::Delivered);
        assert_eq!(status(&[arrived, trouble(Trouble::Lost)]), Status::Delivered);
    }

    #[test]
    fn a_parcel_that_was_never_made_can_be_cancelled() {
        let row = after([Event::Cancelled { order: order_id() }]);
        assert_eq!((row.status.0, row.label.0), (Status::Cancelled, Label::None));
        assert!(row.units.0.is_empty());
    }

    #[test]
    fn the_label_of_a_cancelled_parcel_is_given_back() {
        let carrier_ref = || "shp_1".parse().unwrap();
        let label = Event::LabelBought {
            order: order_id(),
            carrier_ref: carrier_ref(),
            tracking_code: "T1".parse().unwrap(),
        };
        let cancelled = Event::Cancelled { order: order_id() };
        let void = Event::LabelVoidRequested { order: order_id(), carrier_ref: carrier_ref() };
        let done = Event::LabelVoided { order: order_id() };
        let row = after([created(), packed(), label, cancelled, void, done]);
        assert_eq!((row.status.0, row.label.0), (Status::Cancelled, Label::Voided));
    }
}
