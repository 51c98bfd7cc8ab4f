//! Shipping: a fulfilment order, which a warehouse packs, and its parcel, which a carrier takes.
//!
//! ```text
//! Absent ─▶ Open ─pack─▶ Packed ─hand over─▶ HandedOver ─delivered─▶ Delivered
//!   │        │             │                     │
//!   └────────┴──cancel─────┴─▶ Cancelled         └─cancel─▶ refused, by an event
//! ```
//!
//! Beside that line stand two gates, which open in any order: the label that the carrier sold,
//! and the release once the goods are paid for. Hand-over needs both, and no hold: on hold nothing
//! is packed and nothing leaves. What the carrier saw is
//! always kept: a scan moves the parcel forward only, and a scan of something that was cancelled
//! is kept without moving anything, since somebody has to look for the parcel. What went wrong on
//! the way is kept beside the line: a parcel that was lost may still arrive.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use schemas::inventory::Units;
use schemas::shipping::{Command, Event, Scan, Trouble};
use schemas::{Address, Decider, OrderId, Personal, Quantity, Sku, Text, Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// A fulfilment order and its one parcel.
#[expect(clippy::struct_excessive_bools, reason = "gates that open apart from each other")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shipping {
    /// For which order; none: nobody has heard of it.
    order: Option<OrderId>,
    stage: Stage,
    /// Where it goes; none: it was cancelled or held before it was created.
    address: Option<Personal<Address>>,
    /// What is to be sent.
    units: Vec<Units>,
    held: bool,
    released: bool,
    label: Option<Label>,
    /// The carrier's last refusal to sell a label.
    label_rejected: Option<Text>,
    /// Labels that are to be given back, by the carrier's id, and whether that is done.
    voids: BTreeSet<Text>,
    voids_done: bool,
    /// The furthest that the carrier saw the parcel, and when.
    seen: Option<(Scan, Timestamp)>,
    carrier_events: BTreeSet<Text>,
    /// Whether a question that came too late, to create it or to cancel it, has been answered.
    late_answered: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Stage {
    #[default]
    Open,
    Packed,
    HandedOver,
    Delivered,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Label {
    carrier_ref: Text,
    tracking_code: Text,
}

/// Why a fulfilment order does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody created it.
    #[error("there is no such fulfilment order")]
    NotFound,
    /// Nothing is to be sent.
    #[error("a fulfilment order has at least one unit")]
    Empty,
    /// It will not be sent.
    #[error("the fulfilment order is cancelled")]
    Cancelled,
    /// Somebody has it wait.
    #[error("the fulfilment order is on hold")]
    OnHold,
    /// More is missing than was to be sent.
    #[error("{0}: so many units of it are not to be sent")]
    NotToBeSent(Sku),
    /// A sku stands twice in one report.
    #[error("{0} stands twice in the report")]
    DuplicateSku(Sku),
    /// It is too late to miss anything.
    #[error("the goods are packed")]
    AlreadyPacked,
    /// There is no parcel yet.
    #[error("the goods are not packed")]
    NotPacked,
    /// It is not paid for.
    #[error("the goods are not released: they are not paid for yet")]
    NotReleased,
    /// The carrier has sold no label yet.
    #[error("the parcel has no label yet")]
    NoLabel,
}

impl schemas::Refusal for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Empty => "empty_fulfilment",
            Self::Cancelled => "cancelled",
            Self::OnHold => "on_hold",
            Self::NotToBeSent(_) => "not_to_be_sent",
            Self::DuplicateSku(_) => "duplicate_sku",
            Self::AlreadyPacked => "already_packed",
            Self::NotPacked => "not_packed",
            Self::NotReleased => "not_released",
            Self::NoLabel => "no_label",
        }
    }
}

impl Decider for Shipping {
    const NAME: &'static str = "shipping";
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let Some(order) = self.order else {
            return match command {
                Command::Create { order, units, address } => create(*order, units, address),
                Command::Hold { order } => Ok(vec![Event::Held { order: *order }]),
                Command::Cancel { order } => Ok(vec![Event::Cancelled { order: *order }]),
                _ => Err(Refusal::NotFound),
            };
        };
        match command {
            // Held before it was created.
            Command::Create { units, address, .. }
                if self.stage == Stage::Open && self.address.is_none() =>
            {
                create(order, units, address)
            }
            Command::Create { .. } => Ok(self.create_again(order)),
            Command::ReportShort { short } => self.report_short(order, short),
            Command::Hold { .. } => Ok(self.hold(order)),
            Command::Resume if self.held => Ok(vec![Event::Resumed { order }]),
            Command::Resume => Ok(vec![]),
            Command::Pack => self.pack(order),
            Command::ReleaseForHandover => Ok(self.release(order)),
            Command::HandOver => self.hand_over(order),
            Command::RecordLabel { carrier_ref, tracking_code } => {
                Ok(self.record_label(order, carrier_ref, tracking_code))
            }
            Command::RecordLabelRejected { code } => Ok(self.record_label_rejected(order, code)),
            Command::RecordLabelVoided if self.voids.is_empty() || self.voids_done => Ok(vec![]),
            Command::RecordLabelVoided => Ok(vec![Event::LabelVoided { order }]),
            Command::RecordScan { carrier_event, scan, at } => {
                Ok(self.record_scan(order, carrier_event, *scan, *at))
            }
            Command::RecordTrouble { carrier_event, trouble, at } => {
                Ok(self.record_trouble(order, carrier_event, *trouble, *at))
            }
            Command::Cancel { .. } => Ok(self.cancel(order)),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        self.order = self.order.or_else(|| Some(event.order()));
        match event {
            Event::Created { address, units, .. } => {
                self.address = Some(address.clone());
                self.units.clone_from(units);
            }
            Event::ShortPicked { left, .. } => self.units.clone_from(left),
            Event::Held { .. } => self.held = true,
            Event::Resumed { .. } => self.held = false,
            Event::Packed { .. } => self.stage = Stage::Packed,
            Event::Released { .. } => self.released = true,
            Event::LabelBought { carrier_ref, tracking_code, .. } => {
                self.label = Some(Label {
                    carrier_ref: carrier_ref.clone(),
                    tracking_code: tracking_code.clone(),
                });
            }
            Event::LabelRejected { code, .. } => self.label_rejected = Some(code.clone()),
            Event::HandedOver { .. } => self.stage = Stage::HandedOver,
            Event::Scanned { carrier_event, scan, at, .. } => {
                self.carrier_events.insert(carrier_event.clone());
                if self.seen.is_none_or(|(seen, _)| seen < *scan) {
                    self.seen = Some((*scan, *at));
                }
            }
            Event::TroubleReported { carrier_event, at, .. } => {
                self.carrier_events.insert(carrier_event.clone());
                if self.seen.is_none_or(|(seen, _)| seen < Scan::InTransit) {
                    self.seen = Some((Scan::InTransit, *at));
                }
            }
            Event::Delivered { .. } => self.stage = Stage::Delivered,
            Event::Cancelled { .. } => {
                self.late_answered = self.stage == Stage::Cancelled;
                self.stage = Stage::Cancelled;
            }
            Event::CancelRejected { .. } => self.late_answered = true,
            Event::LabelVoidRequested { carrier_ref, .. } => {
                self.voids.insert(carrier_ref.clone());
                self.voids_done = false;
            }
            Event::LabelVoided { .. } => self.voids_done = true,
        }
        self
    }
}

fn create(
    order: OrderId,
    units: &[Units],
    address: &Personal<Address>,
) -> Result<Vec<Event>, Refusal> {
    if units.is_empty() {
        return Err(Refusal::Empty);
    }
    Ok(vec![Event::Created { order, units: units.to_vec(), address: address.clone() }])
}

impl Shipping {
    /// Created again: nothing, unless it was cancelled before it was created. Then the one who
    /// asks waits for an answer, and gets it once.
    fn create_again(&self, order: OrderId) -> Vec<Event> {
        let overtaken = self.stage == Stage::Cancelled && self.address.is_none();
        if overtaken && !self.late_answered { vec![Event::Cancelled { order }] } else { vec![] }
    }

    /// What has left cannot be stopped by it.
    fn hold(&self, order: OrderId) -> Vec<Event> {
        let here = matches!(self.stage, Stage::Open | Stage::Packed);
        if here && !self.held { vec![Event::Held { order }] } else { vec![] }
    }

    /// Some of it is missing. Where that is all of it there is nothing to send.
    fn report_short(&self, order: OrderId, short: &[Units]) -> Result<Vec<Event>, Refusal> {
        match self.stage {
            Stage::Cancelled => return Err(Refusal::Cancelled),
            Stage::Packed | Stage::HandedOver | Stage::Delivered => {
                return Err(Refusal::AlreadyPacked);
            }
            Stage::Open if self.address.is_none() => return Err(Refusal::NotFound),
            Stage::Open if short.is_empty() => return Err(Refusal::Empty),
            Stage::Open => {}
        }
        let mut missing = BTreeMap::new();
        for Units { sku, quantity } in short {
            if missing.insert(sku, quantity.get()).is_some() {
                return Err(Refusal::DuplicateSku(sku.clone()));
            }
        }
        let mut left = Vec::new();
        for Units { sku, quantity } in &self.units {
            let rest = quantity.get().checked_sub(missing.remove(sku).unwrap_or_default());
            let rest = rest.ok_or_else(|| Refusal::NotToBeSent(sku.clone()))?;
            let units = |quantity| Units { sku: sku.clone(), quantity };
            left.extend(Quantity::new(rest).ok().map(units));
        }
        if let Some(sku) = missing.into_keys().next() {
            return Err(Refusal::NotToBeSent(sku.clone()));
        }
        let none_left = left.is_empty();
        let mut events = vec![Event::ShortPicked { order, short: short.to_vec(), left }];
        if none_left {
            events.extend(self.cancel(order));
        }
        Ok(events)
    }

    fn pack(&self, order: OrderId) -> Result<Vec<Event>, Refusal> {
        match (self.stage, &self.address) {
            (Stage::Cancelled, _) => Err(Refusal::Cancelled),
            (Stage::Open, None) => Err(Refusal::NotFound),
            (Stage::Open, Some(_)) if self.held => Err(Refusal::OnHold),
            (Stage::Open, Some(address)) => Ok(vec![Event::Packed {
                order,
                shipment: order.fulfilment().shipment(),
                address: address.clone(),
            }]),
            _ => Ok(vec![]),
        }
    }

    /// Of one that was cancelled: nothing, whoever asks has heard of that. Of one that has left
    /// unpaid, by a scan: it is noted that it is paid for now.
    fn release(&self, order: OrderId) -> Vec<Event> {
        let done = self.released || self.stage == Stage::Cancelled;
        if done { vec![] } else { vec![Event::Released { order }] }
    }

    fn hand_over(&self, order: OrderId) -> Result<Vec<Event>, Refusal> {
        match self.stage {
            Stage::Open => Err(Refusal::NotPacked),
            Stage::Cancelled => Err(Refusal::Cancelled),
            Stage::HandedOver | Stage::Delivered => Ok(vec![]),
            Stage::Packed if self.held => Err(Refusal::OnHold),
            Stage::Packed if !self.released => Err(Refusal::NotReleased),
            Stage::Packed => {
                let label = self.label.as_ref().ok_or(Refusal::NoLabel)?;
                Ok(vec![label.handed_over(order, false)])
            }
        }
    }

    fn record_label(&self, order: OrderId, carrier_ref: &Text, tracking_code: &Text) -> Vec<Event> {
        let known = self.label.as_ref().is_some_and(|label| label.carrier_ref == *carrier_ref);
        if known || self.voids.contains(carrier_ref) {
            return vec![];
        }
        // Too late, or one too many: nobody needs it, so the carrier takes it back.
        if self.stage == Stage::Cancelled || self.label.is_some() {
            return vec![Event::LabelVoidRequested { order, carrier_ref: carrier_ref.clone() }];
        }
        let label =
            Label { carrier_ref: carrier_ref.clone(), tracking_code: tracking_code.clone() };
        let mut events = vec![Event::LabelBought {
            order,
            carrier_ref: carrier_ref.clone(),
            tracking_code: tracking_code.clone(),
        }];
        // The carrier saw the parcel before it told us of the label.
        if let Some((scan, at)) = self.seen {
            events.extend(self.left_with(&label, order, scan));
            if scan == Scan::Delivered {
                events.push(Event::Delivered { order, at });
            }
        }
        events
    }

    fn record_label_rejected(&self, order: OrderId, code: &Text) -> Vec<Event> {
        let moot = self.label.is_some() || self.stage == Stage::Cancelled;
        if moot || self.label_rejected.as_ref() == Some(code) {
            return vec![];
        }
        vec![Event::LabelRejected { order, code: code.clone() }]
    }

    fn record_scan(
        &self,
        order: OrderId,
        carrier_event: &Text,
        scan: Scan,
        at: Timestamp,
    ) -> Vec<Event> {
        if self.carrier_events.contains(carrier_event) {
            return vec![];
        }
        let scanned = Event::Scanned { order, carrier_event: carrier_event.clone(), scan, at };
        let old = self.seen.is_some_and(|(seen, _)| scan <= seen);
        match &self.label {
            Some(label) if !old && self.stage != Stage::Cancelled => {
                let mut events = Vec::from_iter(self.left_with(label, order, scan));
                events.push(scanned);
                if scan == Scan::Delivered && self.stage != Stage::Delivered {
                    events.push(Event::Delivered { order, at });
                }
                events
            }
            // Without a label the conclusions are drawn when it arrives.
            _ => vec![scanned],
        }
    }

    /// Only what has left can be lost on the way: where nobody told us of the hand-over, this
    /// gives it away.
    fn record_trouble(
        &self,
        order: OrderId,
        carrier_event: &Text,
        trouble: Trouble,
        at: Timestamp,
    ) -> Vec<Event> {
        if self.carrier_events.contains(carrier_event) {
            return vec![];
        }
        let label = self.label.as_ref().filter(|_| self.stage != Stage::Cancelled);
        let left = label.and_then(|label| self.left_with(label, order, Scan::InTransit));
        let carrier_event = carrier_event.clone();
        let mut events = Vec::from_iter(left);
        events.push(Event::TroubleReported { order, carrier_event, trouble, at });
        events
    }

    fn cancel(&self, order: OrderId) -> Vec<Event> {
        // Seen on its way, it has left, even where we do not know yet with which label.
        let seen_leaving = self.seen.is_some_and(|(scan, _)| scan >= Scan::InTransit);
        match self.stage {
            Stage::Cancelled => vec![],
            Stage::HandedOver | Stage::Delivered if self.late_answered => vec![],
            Stage::Open | Stage::Packed if seen_leaving && self.late_answered => vec![],
            Stage::HandedOver | Stage::Delivered => vec![Event::CancelRejected { order }],
            Stage::Open | Stage::Packed if seen_leaving => vec![Event::CancelRejected { order }],
            Stage::Open | Stage::Packed => {
                let mut events = vec![Event::Cancelled { order }];
                if let Some(Label { carrier_ref, .. }) = &self.label {
                    let carrier_ref = carrier_ref.clone();
                    events.push(Event::LabelVoidRequested { order, carrier_ref });
                }
                events
            }
        }
    }

    /// The hand-over that nobody told us of and `scan` gives away.
    fn left_with(&self, label: &Label, order: OrderId, scan: Scan) -> Option<Event> {
        let here = matches!(self.stage, Stage::Open | Stage::Packed);
        (here && scan >= Scan::InTransit).then(|| label.handed_over(order, true))
    }
}

impl Label {
    fn handed_over(&self, order: OrderId, inferred: bool) -> Event {
        Event::HandedOver {
            order,
            carrier_ref: self.carrier_ref.clone(),
            tracking_code: self.tracking_code.clone(),
            inferred,
        }
    }
}
