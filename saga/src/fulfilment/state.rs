//! What the saga keeps in mind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use schemas::inventory::Units;
use schemas::order::{HoldReason, Line, RejectReason, Shortage};
use schemas::{Address, Money, OrderId, Personal, Quantity, Sku, Text, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An order on its way, from its placing to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fulfilment {
    pub(super) phase: Phase,
    /// The version of the table that it goes by.
    pub(super) version: u16,
    /// What was ordered; none in [`Phase::New`] only.
    pub(super) order: Option<Arc<Order>>,
    /// Whether it is being cancelled: the order then waits for exactly one answer to that.
    pub(super) cancel: bool,
    /// Why the order has to be rejected, where nobody cancels it.
    pub(super) rejection: Option<(RejectReason, Vec<Shortage>)>,
    /// Whether the payment was closed without anybody here asking for that.
    pub(super) closed: bool,
    /// How often the provider would not take the money, and might later.
    pub(super) capture_failures: u32,
    /// How often a card was declined.
    pub(super) declines: u32,
    /// The means of payment that the customer named since.
    pub(super) method: Option<Text>,
    /// Since when goods are held, and until when.
    pub(super) held: Option<(Timestamp, Timestamp)>,
    pub(super) stock: Stock,
    /// What is left of the order, and what is due for it.
    pub(super) cut: Option<Cut>,
    pub(super) funds: Funds,
    /// Whether the order waits for somebody to pay, and how long is measured.
    pub(super) dunned: bool,
    /// Why the order waits.
    pub(super) holds: BTreeSet<HoldReason>,
    /// What was taken.
    pub(super) captured: Option<Money>,
    /// What is gone again, without our giving it back.
    pub(super) reversed: Option<Money>,
    /// What was given back.
    pub(super) refunded: Option<Money>,
    /// What the bank has until it decides to whom it belongs.
    pub(super) disputed: Option<Money>,
}

/// Where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Phase {
    /// Nothing was ordered yet.
    #[default]
    New,
    /// The inventory is looking for the goods.
    Reserving,
    /// The payment provider is looking for the money.
    Authorising,
    /// The customer has to confirm the payment with their bank, or to name another card.
    AwaitingAction,
    /// The order is being told that it stands.
    Confirming,
    /// The warehouse and the carrier are at work.
    Fulfilling(Parcel),
    /// The warehouse is asked to stop.
    Cancelling(Parcel),
    /// Everything is being given back; this is what nobody has acknowledged yet.
    Unwinding(Owed),
    /// The order is being told how it ends.
    Finalising(End),
    /// The order has ended.
    Ended(End),
}

/// How the goods are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Stock {
    /// As they were asked for, or not yet.
    #[default]
    Held,
    /// The hold ran out, and they are being asked for again.
    Again {
        /// Whether everything else has come that the saga waits for.
        ready: bool,
    },
}

/// What is left where the warehouse did not find everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Cut {
    pub(super) left: Vec<Units>,
    /// What the order says is due for it; none: it has not said so yet.
    pub(super) due: Option<Money>,
}

/// How the money stands between the confirmation of an order and its capture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Funds {
    /// Held at the provider, as far as anybody knows.
    #[default]
    Held,
    /// Held no longer, and being asked for anew.
    Renewing,
    /// Not to be had: somebody has to do something.
    Wanting {
        /// Whether it is held all the same, and could not be taken.
        held: bool,
    },
}

/// Where the one parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Parcel {
    /// In the making.
    Picking,
    /// Packed, and being paid for.
    Capturing,
    /// Paid for; it may go.
    Released,
    /// Gone: there is no way back.
    Shipped,
}

/// What has to come back before the order may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Owed {
    pub(super) money: bool,
    pub(super) stock: bool,
}

/// How an order ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum End {
    Completed,
    Cancelled,
    Rejected,
}

impl Phase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reserving => "reserving",
            Self::Authorising => "authorising",
            Self::AwaitingAction => "awaiting_action",
            Self::Confirming => "confirming",
            Self::Fulfilling(Parcel::Picking) => "fulfilling/picking",
            Self::Fulfilling(Parcel::Capturing) => "fulfilling/capturing",
            Self::Fulfilling(Parcel::Released) => "fulfilling/released",
            Self::Fulfilling(Parcel::Shipped) => "fulfilling/shipped",
            Self::Cancelling(_) => "cancelling",
            Self::Unwinding(_) => "unwinding",
            Self::Finalising(_) => "finalising",
            Self::Ended(end) => end.name(),
        }
    }
}

impl End {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

impl Fulfilment {
    /// Whether somebody is told when the warehouse is late, and waited for where nobody pays:
    /// since version 3.
    pub(super) const fn is_watched(&self) -> bool {
        self.version > 2
    }

    pub(super) fn to(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    pub(super) fn cancelled(self) -> Self {
        Self { cancel: true, ..self }
    }

    pub(super) fn rejected(self, reason: RejectReason, short: &[Shortage]) -> Self {
        Self { rejection: Some((reason, short.to_vec())), ..self }
    }

    pub(super) fn captured(self, amount: Money) -> Self {
        Self { captured: sum(self.captured, amount), ..self }
    }

    pub(super) fn reversed(self, amount: Money) -> Self {
        Self { reversed: sum(self.reversed, amount), ..self }
    }

    pub(super) fn disputed(self, amount: Money) -> Self {
        Self { disputed: sum(self.disputed, amount), ..self }
    }

    /// The bank decided about so much.
    pub(super) fn judged(self, amount: Money) -> Self {
        let rest = self.disputed.and_then(|disputed| disputed.minus(amount).ok());
        Self { disputed: rest.filter(|rest| rest.amount > 0), ..self }
    }

    /// Whether money that was taken is gone again.
    pub(super) fn is_unpaid(&self) -> bool {
        self.reversed.is_some()
    }

    pub(super) fn refunded(self, amount: Money) -> Self {
        Self { refunded: sum(self.refunded, amount), ..self }
    }

    pub(super) fn funded(self, funds: Funds) -> Self {
        Self { funds, ..self }
    }

    pub(super) fn on_hold(mut self, reason: HoldReason) -> Self {
        self.holds.insert(reason);
        self
    }

    pub(super) fn off_hold(mut self, reason: HoldReason) -> Self {
        self.holds.remove(&reason);
        self
    }

    /// Only this is left to be sent.
    pub(super) fn left(self, left: &[Units]) -> Self {
        Self { cut: Some(Cut { left: left.to_vec(), due: None }), ..self }
    }

    /// The order says what is due where only this is left.
    pub(super) fn due_for(mut self, left: &[Units], total: Money) -> Self {
        if let Some(cut) = self.cut.as_mut().filter(|cut| cut.left == left) {
            cut.due = Some(total);
        }
        self
    }

    /// What is paid with.
    pub(super) fn method<'a>(&'a self, order: &'a Order) -> &'a Text {
        self.method.as_ref().unwrap_or(&order.method)
    }

    /// What is due; none while the order is counting.
    pub(super) fn due(&self, order: &Order) -> Option<Money> {
        self.cut.as_ref().map_or(Some(order.total), |cut| cut.due)
    }

    pub(super) fn with(self, stock: Stock) -> Self {
        Self { stock, ..self }
    }

    /// Goods are asked for, or held, for so long from now on.
    pub(super) fn holding(self, now: Timestamp, long: Duration) -> Self {
        let since = self.held.map_or(now, |(since, _)| since);
        Self { held: Some((since, now + long)), ..self }
    }

    /// How much of the hold is left.
    pub(super) fn hold_left(&self, now: Timestamp) -> Duration {
        self.held.and_then(|(_, until)| (until - now).to_std().ok()).unwrap_or_default()
    }

    /// For how long goods have been held.
    pub(super) fn held_for(&self, now: Timestamp) -> Duration {
        self.held.and_then(|(since, _)| (now - since).to_std().ok()).unwrap_or_default()
    }

    /// Whether only the goods are missing.
    pub(super) fn is_ready(&self) -> bool {
        self.stock == Stock::Again { ready: true }
    }

    pub(super) fn closed(self) -> Self {
        Self { closed: true, ..self }
    }

    /// What an undoing has to give back from here.
    pub(super) fn owes(&self, order: &Order) -> Owed {
        let asked = !matches!(self.phase, Phase::New | Phase::Reserving);
        let open = !self.closed || self.keeps_money();
        Owed { money: asked && open && !order.total.is_zero(), stock: true }
    }

    /// Whether more was taken than given back, lost, or left to a bank to decide about.
    pub(super) fn keeps_money(&self) -> bool {
        self.kept() > 0
    }

    /// What was taken and is still there, in minor units.
    pub(super) fn kept(&self) -> i64 {
        let amount = |money: Option<Money>| money.map_or(0, |money| money.amount);
        let gone = amount(self.refunded) + amount(self.reversed) + amount(self.disputed);
        amount(self.captured) - gone
    }
}

/// Amounts of one payment share a currency and are bounded by its total, so this adds up.
fn sum(so_far: Option<Money>, amount: Money) -> Option<Money> {
    so_far.map_or(Some(amount), |so_far| so_far.plus(amount).ok())
}

/// What the saga has to know about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Which one.
    pub id: OrderId,
    /// What it costs.
    pub total: Money,
    /// The payment provider's token.
    pub method: Text,
    /// What is sent, every sku once. Empty where more of a sku is wanted than can be counted.
    pub units: Vec<Units>,
    /// Where it goes.
    pub address: Personal<Address>,
}

impl Order {
    pub(super) fn new(
        id: Uuid,
        lines: &[Line],
        total: Money,
        address: &Personal<Address>,
        method: &Text,
    ) -> Self {
        Self {
            id: OrderId::new(id),
            total,
            method: method.clone(),
            units: units(lines).unwrap_or_default(),
            address: address.clone(),
        }
    }

    pub(super) fn skus(&self) -> Vec<Sku> {
        self.units.iter().map(|units| units.sku.clone()).collect()
    }
}

/// The lines, every sku once. None where a sum is more than a quantity can be.
fn units(lines: &[Line]) -> Option<Vec<Units>> {
    let mut sums = BTreeMap::<&Sku, u32>::new();
    for line in lines {
        let sum = sums.entry(&line.sku).or_default();
        *sum = sum.checked_add(line.quantity.get())?;
    }
    let units = sums
        .into_iter()
        .map(|(sku, sum)| Some(Units { sku: sku.clone(), quantity: Quantity::new(sum).ok()? }));
    units.collect()
}
