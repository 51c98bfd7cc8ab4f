//! One row per order, with everything that its page shows.

use std::collections::BTreeSet;

use schemas::order::{
    CancelReason, CancelledLine, Event, HoldReason, Line, RejectReason, Shortage,
};
use schemas::{
    Address, Category, Currency, Fact, Money, OrderId, Personal, Quantity, Recorded, Timestamp,
};
use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use crate::order_progress::{FulfilmentStatus, PaymentStatus, Progress, Status};
use crate::projection::{Keys, Projection};
use crate::row::AsText;

crate::table! {
    /// An order on its own page.
    pub struct Row {
        /// The order.
        order_id: Uuid,
        /// Who ordered.
        customer: Uuid,
        /// The order as a whole.
        status: AsText<Status>,
        /// The money.
        payment_status: AsText<PaymentStatus>,
        /// The goods.
        fulfilment_status: AsText<FulfilmentStatus>,
        /// What was ordered.
        lines: Json<Vec<Line>>,
        /// Where it goes, sealed.
        shipping_address: Json<Personal<Address>>,
        /// The payment provider's token.
        payment_method: String,
        /// The currency of all its amounts.
        currency: AsText<Currency>,
        /// What is due, in minor units.
        total: i64,
        /// What was taken, in minor units.
        captured: i64,
        /// What was given back, in minor units.
        refunded: i64,
        /// Why it was rejected.
        rejected: Option<Json<RejectReason>>,
        /// What was short, where that is why.
        short: Json<Vec<Shortage>>,
        /// Why somebody wants or wanted it undone.
        cancel_reason: Option<Json<CancelReason>>,
        /// Why it waits.
        holds: Json<BTreeSet<HoldReason>>,
        /// What was taken off its lines, one after the other.
        cancelled_units: Json<Vec<CancelledLine>>,
        /// The number to follow the goods with.
        tracking_code: Option<String>,
        /// When it was placed.
        placed_at: Timestamp,
        /// When it was confirmed.
        confirmed_at: Option<Timestamp>,
        /// When the goods left.
        shipped_at: Option<Timestamp>,
        /// When the goods arrived, by the carrier's word.
        delivered_at: Option<Timestamp>,
        /// When it was completed, cancelled or rejected.
        closed_at: Option<Timestamp>,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its stream.
        version: i64,
    }
}

impl Row {
    /// The order's id.
    #[must_use]
    pub const fn id(&self) -> OrderId {
        OrderId::new(self.order_id)
    }

    /// An amount in the order's currency.
    #[must_use]
    pub const fn money(&self, amount: i64) -> Money {
        Money::new(amount, self.currency.0)
    }

    /// The quantities of its line number `index`, from 0, of so many units.
    #[must_use]
    pub fn quantities(&self, index: usize, quantity: Quantity) -> Quantities {
        let gone = self.cancelled_units.0.iter().filter(|gone| usize::from(gone.line) == index);
        self.goods().of(quantity, gone.map(|gone| gone.quantity.get()).sum())
    }

    /// How far the goods have come.
    #[must_use]
    pub fn goods(&self) -> Goods {
        let closed = matches!(self.status.0, Status::Cancelled | Status::Rejected);
        match (self.delivered_at, self.shipped_at, self.confirmed_at) {
            (Some(_), ..) => Goods::Delivered,
            (None, Some(_), _) => Goods::Shipped,
            _ if closed => Goods::Cancelled,
            (None, None, Some(_)) => Goods::Reserved,
            (None, None, None) => Goods::Open,
        }
    }

    fn placed(key: Uuid, fact: &Event, recorded_at: Timestamp) -> Option<Self> {
        let Event::Placed { customer, lines, total, shipping_address, payment_method, placed_at } =
            fact
        else {
            return None;
        };
        let progress = Progress::placed(total.amount);
        Some(Self {
            order_id: key,
            customer: customer.uuid(),
            status: AsText(progress.status),
            payment_status: AsText(progress.payment_status),
            fulfilment_status: AsText(progress.fulfilment_status),
            lines: Json(lines.clone()),
            shipping_address: Json(shipping_address.clone()),
            payment_method: payment_method.to_string(),
            currency: AsText(total.currency),
            total: total.amount,
            captured: 0,
            refunded: 0,
            rejected: None,
            short: Json(Vec::new()),
            cancel_reason: None,
            holds: Json(BTreeSet::new()),
            cancelled_units: Json(Vec::new()),
            tracking_code: None,
            placed_at: *placed_at,
            confirmed_at: None,
            shipped_at: None,
            delivered_at: None,
            closed_at: None,
            updated_at: recorded_at,
            version: 1,
        })
    }

    fn advance(mut self, fact: &Event) -> Self {
        let progress = Progress {
            status: self.status.0,
            payment_status: self.payment_status.0,
            fulfilment_status: self.fulfilment_status.0,
            total: self.total,
            captured: self.captured,
            refunded: self.refunded,
            confirmed: self.confirmed_at.is_some(),
            holds: std::mem::take(&mut self.holds.0),
        };
        let progress = progress.evolve(fact);
        self.status = AsText(progress.status);
        self.payment_status = AsText(progress.payment_status);
        self.fulfilment_status = AsText(progress.fulfilment_status);
        self.total = progress.total;
        self.captured = progress.captured;
        self.refunded = progress.refunded;
        self.holds = Json(progress.holds);
        self
    }

    fn note(mut self, fact: &Event, occurred_at: Timestamp) -> Self {
        match fact {
            Event::Confirmed => self.confirmed_at = Some(occurred_at),
            Event::Rejected { reason, short } => {
                self.rejected = Some(Json(*reason));
                self.short = Json(short.clone());
                self.closed_at = Some(occurred_at);
            }
            Event::CancellationRequested { reason } => self.cancel_reason = Some(Json(*reason)),
            Event::CancellationRejected { .. } => self.cancel_reason = None,
            Event::Cancelled { reason, .. } => {
                self.cancel_reason = Some(Json(*reason));
                self.closed_at = Some(occurred_at);
            }
            Event::ShipmentRecorded { tracking_code } => {
                self.tracking_code = Some(tracking_code.to_string());
                self.shipped_at = Some(occurred_at);
            }
            Event::DeliveryRecorded { at } => self.delivered_at = Some(*at),
            Event::Completed => self.closed_at = Some(occurred_at),
            Event::LinesCancelled { lines, .. } => self.cancelled_units.0.extend_from_slice(lines),
            Event::Placed { .. }
            | Event::ConfirmRejected
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::PaymentActionRequired
            | Event::PaymentRecorded { .. }
            | Event::RefundRecorded { .. } => {}
        }
        self
    }
}

/// How far the goods of an order have come, by its own events. What was not taken off its lines
/// goes together: all of it is held, sent or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goods {
    /// Neither held nor sent nor given up.
    Open,
    /// Held for the confirmed order.
    Reserved,
    /// Given to the carrier.
    Shipped,
    /// With the customer.
    Delivered,
    /// Given up: the order was cancelled or rejected.
    Cancelled,
}

/// How many units of a line have come how far.
///
/// Those that are ordered are open, reserved, shipped or cancelled; those that are delivered have
/// been shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Quantities {
    /// Wanted by the customer.
    pub ordered: u32,
    /// Neither held nor sent nor given up.
    pub open: u32,
    /// Held for the confirmed order.
    pub reserved: u32,
    /// Given to the carrier.
    pub shipped: u32,
    /// With the customer.
    pub delivered: u32,
    /// Given up: taken off the line, or the order was cancelled or rejected.
    pub cancelled: u32,
}

impl Goods {
    /// The quantities of a line of so many units, of which some were taken off it.
    fn of(self, quantity: Quantity, gone: u32) -> Quantities {
        let ordered = quantity.get();
        let left = ordered.saturating_sub(gone);
        let all_if = |so: bool| if so { left } else { 0 };
        Quantities {
            ordered,
            open: all_if(self == Self::Open),
            reserved: all_if(self == Self::Reserved),
            shipped: all_if(matches!(self, Self::Shipped | Self::Delivered)),
            delivered: all_if(self == Self::Delivered),
            cancelled: ordered - left + all_if(self == Self::Cancelled),
        }
    }
}

/// The page of an order.
#[derive(Debug)]
pub struct OrderDetail;

impl Projection for OrderDetail {
    const NAME: &'static str = "order_detail";
    const VERSION: u16 = 2;
    const CATEGORIES: &'static [Category] = &[Category::Order];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match event.fact {
            Fact::Order(_) => Keys::One(event.stream.id),
            _ => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Order(fact) = &event.fact else { return row };
        let row = match row {
            None => Row::placed(key, fact, event.recorded_at)?,
            Some(row) => row.advance(fact).note(fact, event.occurred_at),
        };
        Some(Row { version: event.version, updated_at: event.recorded_at, ..row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::{given, placed};

    #[test]
    fn a_rejected_order_says_what_was_short() {
        let short = vec![Shortage {
            sku: "mug".parse().unwrap(),
            wanted: Quantity::new(3).unwrap(),
            available: 1,
        }];
        let rejected = Event::Rejected { reason: RejectReason::OutOfStock, short: short.clone() };
        let row = given::<OrderDetail>([placed(300), Fact::Order(rejected)]).one();
        assert_eq!(row.short.0, short);
        assert_eq!(row.rejected, Some(Json(RejectReason::OutOfStock)));
        assert_eq!(row.status.0, Status::Rejected);
        assert!(row.closed_at.is_some());
    }

    #[test]
    fn a_shipped_order_says_how_to_follow_it() {
        let shipped = Event::ShipmentRecorded { tracking_code: "T1".parse().unwrap() };
        let facts = [Event::Confirmed, shipped].map(Fact::Order);
        let row = given::<OrderDetail>([placed(300)].into_iter().chain(facts)).one();
        assert_eq!(row.tracking_code.as_deref(), Some("T1"));
        assert!(row.confirmed_at < row.shipped_at);
        assert_eq!((row.version, row.lines.0.len()), (3, 1));
    }

    #[test]
    fn a_cancelled_order_says_what_came_back() {
        let ask = Event::CancellationRequested { reason: CancelReason::Customer };
        let refunded = Some(Money::new(300, Currency::EUR));
        let done = Event::Cancelled { reason: CancelReason::Customer, refunded };
        let facts = [ask, done].map(Fact::Order);
        let row = given::<OrderDetail>([placed(300)].into_iter().chain(facts)).one();
        assert_eq!(row.status.0, Status::Cancelled);
        assert_eq!((row.captured, row.refunded), (300, 300));
        assert_eq!(row.cancel_reason, Some(Json(CancelReason::Customer)));
    }
    #[test]
    fn every_unit_of_a_line_is_somewhere() {
        let told = |facts: &[Event]| {
            let facts = facts.iter().cloned().map(Fact::Order);
            let row = given::<OrderDetail>([placed(300)].into_iter().chain(facts)).one();
            let of = row.quantities(0, Quantity::new(3).unwrap());
            assert_eq!(of.open + of.reserved + of.shipped + of.cancelled, 3);
            assert!(of.ordered == 3 && of.delivered <= of.shipped);
            [of.open, of.reserved, of.shipped, of.delivered, of.cancelled]
        };
        let confirmed = || Event::Confirmed;
        let shipped = || Event::ShipmentRecorded { tracking_code: "T1".parse().unwrap() };
        let delivered = || Event::DeliveryRecorded { at: chrono::DateTime::UNIX_EPOCH };
        let ask = || Event::CancellationRequested { reason: CancelReason::Customer };
        let cancelled = || Event::Cancelled { reason: CancelReason::Customer, refunded: None };
        let rejected = || Event::Rejected { reason: RejectReason::OutOfStock, short: vec![] };
        assert_eq!(told(&[]), [3, 0, 0, 0, 0]);
        assert_eq!(told(&[rejected()]), [0, 0, 0, 0, 3]);
        assert_eq!(told(&[confirmed()]), [0, 3, 0, 0, 0]);
        assert_eq!(told(&[confirmed(), ask()]), [0, 3, 0, 0, 0]);
        assert_eq!(told(&[confirmed(), ask(), cancelled()]), [0, 0, 0, 0, 3]);
        assert_eq!(told(&[confirmed(), shipped()]), [0, 0, 3, 0, 0]);
        let cut = || Event::LinesCancelled {
            lines: vec![CancelledLine { line: 0, quantity: Quantity::new(1).unwrap() }],
            left: vec![],
            reason: CancelReason::Inventory,
            total: Money::new(200, Currency::EUR),
        };
        assert_eq!(told(&[confirmed(), cut()]), [0, 2, 0, 0, 1]);
        assert_eq!(told(&[confirmed(), cut(), shipped()]), [0, 0, 2, 0, 1]);
        assert_eq!(told(&[confirmed(), cut(), ask(), cancelled()]), [0, 0, 0, 0, 3]);
        assert_eq!(told(&[confirmed(), shipped(), delivered()]), [0, 0, 3, 3, 0]);
    }
}
