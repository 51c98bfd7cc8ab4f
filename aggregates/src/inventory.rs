//! Inventory: how much there is of every sku, and what is held for whom.
//!
//! A command about a reservation touches the reservation's stream and one for each sku, and is
//! decided on all of them at once: their states are folded apart and joined. All checks and all
//! holds are one decision, so two customers cannot both get the last unit.
//!
//! ```text
//! Absent ─reserve─▶ Held ─commit─▶ Committed        Absent ─reserve─▶ Rejected
//!   │                │ ▲              │             Held ─expire─▶ Expired ─commit─▶ Committed
//!   └────release────▶│ └─reserve── Expired
//!                    └──────▶ Released ◀────────┘   (what was committed comes back)
//! ```
//!
//! What is held may become less on the way, where some of it turns out not to be there.
//!
//! A hold lasts until it is given up: who holds it extends it in time, or finds on the way that
//! they are too late. That nobody else takes it away by the clock alone is on purpose: who holds
//! it is the one who knows whether somebody still waits for the goods.
//!
//! Numbers of a sku follow from its own stream alone: received, adjusted and returned units
//! raise what is on hand, committed units lower it; reserved units are promised until they are
//! released or committed. What is announced is still to come until it is received under the same
//! reference; nothing can be promised of it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use schemas::inventory::{ANNOUNCED_MAX, Command, Event, ReserveMode, SKUS_MAX, Shortage, Units};
use schemas::{Decider, OrderId, Quantity, ReservationId, Sku, StreamId, Text, Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The stock and the reservations of the streams that a command touches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    stock: BTreeMap<Sku, Stock>,
    reservations: BTreeMap<ReservationId, Reservation>,
}

/// How many units of a sku there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Stock {
    on_hand: u32,
    /// Of those on hand: how many are promised. More than are on hand only after an oversell.
    reserved: u32,
    /// How many are still to come, by the reference under which they were announced.
    expected: BTreeMap<Text, u32>,
}

impl Stock {
    const fn free(&self) -> u32 {
        self.on_hand.saturating_sub(self.reserved)
    }

    fn expect(&mut self, reference: &Text, quantity: u32) {
        match quantity {
            0 => self.expected.remove(reference),
            _ => self.expected.insert(reference.clone(), quantity),
        };
    }
}

/// What is held for one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Reservation {
    status: Status,
    units: Vec<Units>,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Status {
    Held,
    Committed,
    Expired,
    Rejected,
    /// Given up, perhaps before it was made.
    Released {
        /// Whether a later attempt to reserve has been turned away.
        refused: bool,
    },
}

/// Why the inventory does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody made the reservation.
    #[error("there is no such reservation")]
    NotFound,
    /// Nothing is to be reserved.
    #[error("a reservation holds at least one sku")]
    Empty,
    /// Too much is to be reserved at once.
    #[error("a reservation holds at most {SKUS_MAX} skus")]
    TooManySkus,
    /// A sku stands twice in one reservation.
    #[error("{0} stands twice in the reservation")]
    DuplicateSku(Sku),
    /// The command does not name every sku that the reservation holds.
    #[error("the reservation also holds {0}")]
    SkuMissing(Sku),
    /// Fewer units would remain than are promised.
    #[error("{sku}: only {free} units are free")]
    InsufficientStock {
        /// What.
        sku: Sku,
        /// How many are not promised to anybody.
        free: u32,
    },
    /// More units than we can count.
    #[error("the stock would be too large")]
    StockOverflow,
    /// The reservation was given up or turned away: there is nothing to commit.
    #[error("the reservation is closed")]
    ReservationClosed,
    /// More units are announced than one delivery can have.
    #[error("at most {} units are announced at once", Quantity::MAX)]
    TooManyExpected,
    /// Too many deliveries are on their way.
    #[error(
        "deliveries of one sku are announced under at most {ANNOUNCED_MAX} references at a time"
    )]
    TooManyAnnounced,
}

impl schemas::Refusal for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Empty => "empty_reservation",
            Self::TooManySkus => "too_many_skus",
            Self::DuplicateSku(_) => "duplicate_sku",
            Self::SkuMissing(_) => "sku_missing",
            Self::InsufficientStock { .. } => "insufficient_stock",
            Self::StockOverflow => "stock_overflow",
            Self::ReservationClosed => "reservation_closed",
            Self::TooManyExpected => "too_many_expected",
            Self::TooManyAnnounced => "too_many_announced",
        }
    }
}

impl Decider for Inventory {
    const NAME: &'static str = "inventory";
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Expect { sku, quantity, reference } => self.expect(sku, *quantity, reference),
            Command::Receive { sku, quantity, reference } => {
                self.receive(sku, *quantity, reference.as_ref())
            }
            Command::Adjust { sku, delta, reason } => self.adjust(sku, *delta, reason),
            Command::Reserve { order, reservation, units, mode, expires_at } => self.reserve(
                Holder { order: *order, reservation: *reservation },
                units,
                *mode,
                *expires_at,
            ),
            Command::Release { order, reservation, skus } => {
                self.release(Holder { order: *order, reservation: *reservation }, skus)
            }
            Command::Reduce { order, reservation, units } => {
                self.reduce(Holder { order: *order, reservation: *reservation }, units)
            }
            Command::Commit { order, reservation, skus } => {
                self.commit(Holder { order: *order, reservation: *reservation }, skus)
            }
            Command::Extend { order, reservation, skus, until, at } => {
                let holder = Holder { order: *order, reservation: *reservation };
                self.extend(holder, skus, *until, *at)
            }
            Command::Expire { order, reservation, skus, at } => {
                self.expire(Holder { order: *order, reservation: *reservation }, skus, *at)
            }
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::StockExpected { sku, quantity, reference } => {
                self.stock_mut(sku).expect(reference, *quantity);
            }
            Event::StockReceived { sku, quantity, reference } => {
                let stock = self.stock_mut(sku);
                stock.on_hand = stock.on_hand.saturating_add(quantity.get());
                if let Some(reference) = reference {
                    let announced = stock.expected.get(reference).copied().unwrap_or_default();
                    stock.expect(reference, announced.saturating_sub(quantity.get()));
                }
            }
            Event::StockReturned { sku, quantity, .. } => {
                let stock = self.stock_mut(sku);
                stock.on_hand = stock.on_hand.saturating_add(quantity.get());
            }
            Event::StockAdjusted { sku, delta, .. } => {
                let stock = self.stock_mut(sku);
                stock.on_hand = stock.on_hand.saturating_add_signed(*delta);
            }
            Event::StockReserved { sku, quantity, .. } => {
                let stock = self.stock_mut(sku);
                stock.reserved = stock.reserved.saturating_add(quantity.get());
            }
            Event::StockReleased { sku, quantity, .. } => {
                let stock = self.stock_mut(sku);
                stock.reserved = stock.reserved.saturating_sub(quantity.get());
            }
            Event::StockCommitted { sku, quantity, .. } => {
                let stock = self.stock_mut(sku);
                stock.on_hand = stock.on_hand.saturating_sub(quantity.get());
                stock.reserved = stock.reserved.saturating_sub(quantity.get());
            }
            Event::OversellRecorded { .. } => {}
            Event::Reserved { reservation, units, expires_at, .. }
            | Event::PartiallyReserved { reservation, units, expires_at, .. } => {
                let held = Reservation {
                    status: Status::Held,
                    units: units.clone(),
                    expires_at: Some(*expires_at),
                };
                self.reservations.insert(*reservation, held);
            }
            Event::ReservationRejected { reservation, .. } => {
                let status = match self.status(*reservation) {
                    Some(Status::Released { .. }) => Status::Released { refused: true },
                    _ => Status::Rejected,
                };
                self.settle(*reservation, status);
            }
            Event::ReservationReleased { reservation, .. } => {
                self.settle(*reservation, Status::Released { refused: false });
            }
            Event::ReservationReduced { reservation, units, .. } => {
                self.reservations.entry(*reservation).and_modify(|held| held.reduce(units));
            }
            Event::ReservationCommitted { reservation, .. } => {
                self.settle(*reservation, Status::Committed);
            }
            Event::ReservationExtended { reservation, expires_at, .. } => {
                if let Some(held) = self.reservations.get_mut(reservation) {
                    held.expires_at = Some(*expires_at);
                }
            }
            Event::ReservationExpired { reservation, .. } => {
                self.settle(*reservation, Status::Expired);
            }
        }
        self
    }

    fn stream_of(event: &Event) -> Option<StreamId> {
        Some(event.stream())
    }

    fn join(mut self, other: Self) -> Self {
        self.stock.extend(other.stock);
        self.reservations.extend(other.reservations);
        self
    }
}

impl Reservation {
    /// Forgets of these units.
    fn reduce(&mut self, gone: &[Units]) {
        let left = |held: Units| {
            let gone = gone.iter().find(|gone| gone.sku == held.sku);
            let left =
                held.quantity.get().saturating_sub(gone.map_or(0, |gone| gone.quantity.get()));
            Some(Units { quantity: Quantity::new(left).ok()?, ..held })
        };
        self.units = std::mem::take(&mut self.units).into_iter().filter_map(left).collect();
    }
}

/// Whom the events of a reservation are about.
#[derive(Clone, Copy)]
struct Holder {
    order: OrderId,
    reservation: ReservationId,
}

impl Inventory {
    fn expect(&self, sku: &Sku, quantity: u32, reference: &Text) -> Result<Vec<Event>, Refusal> {
        if quantity > Quantity::MAX {
            return Err(Refusal::TooManyExpected);
        }
        let (sku, reference) = (sku.clone(), reference.clone());
        let announced = self.stock.get(&sku).map(|stock| &stock.expected);
        match announced.and_then(|announced| announced.get(&reference)) {
            Some(known) if *known == quantity => Ok(vec![]),
            None if quantity == 0 => Ok(vec![]),
            None if announced.is_some_and(|announced| announced.len() >= ANNOUNCED_MAX) => {
                Err(Refusal::TooManyAnnounced)
            }
            _ => Ok(vec![Event::StockExpected { sku, quantity, reference }]),
        }
    }

    fn receive(
        &self,
        sku: &Sku,
        quantity: Quantity,
        reference: Option<&Text>,
    ) -> Result<Vec<Event>, Refusal> {
        self.stock(sku).on_hand.checked_add(quantity.get()).ok_or(Refusal::StockOverflow)?;
        Ok(vec![Event::StockReceived { sku: sku.clone(), quantity, reference: reference.cloned() }])
    }

    fn adjust(&self, sku: &Sku, delta: i32, reason: &Text) -> Result<Vec<Event>, Refusal> {
        let stock = self.stock(sku);
        if delta == 0 {
            return Ok(vec![]);
        }
        if delta.unsigned_abs() > stock.free() && delta < 0 {
            return Err(Refusal::InsufficientStock { sku: sku.clone(), free: stock.free() });
        }
        stock.on_hand.checked_add_signed(delta).ok_or(Refusal::StockOverflow)?;
        Ok(vec![Event::StockAdjusted { sku: sku.clone(), delta, reason: reason.clone() }])
    }

    fn reserve(
        &self,
        Holder { order, reservation }: Holder,
        units: &[Units],
        mode: ReserveMode,
        expires_at: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        match self.status(reservation) {
            // Given up before it was made: the one who asks is told so, once.
            Some(Status::Released { refused: false }) => {
                return Ok(vec![Event::ReservationRejected { order, reservation, short: vec![] }]);
            }
            Some(Status::Held | Status::Committed | Status::Rejected | Status::Released { .. }) => {
                return Ok(vec![]);
            }
            None | Some(Status::Expired) => {}
        }
        distinct(units)?;
        let mut held = Vec::new();
        let mut short = Vec::new();
        for Units { sku, quantity: wanted } in units {
            let available = self.stock(sku).free();
            if let Ok(quantity) = Quantity::new(available.min(wanted.get())) {
                held.push(Units { sku: sku.clone(), quantity });
            }
            if available < wanted.get() {
                short.push(Shortage { sku: sku.clone(), wanted: *wanted, available });
            }
        }
        if held.is_empty() || (mode == ReserveMode::AllOrNothing && !short.is_empty()) {
            return Ok(vec![Event::ReservationRejected { order, reservation, short }]);
        }
        let mut events =
            each(&held, |sku, quantity| Event::StockReserved { sku, reservation, quantity });
        events.push(if short.is_empty() {
            Event::Reserved { order, reservation, units: held, expires_at }
        } else {
            Event::PartiallyReserved { order, reservation, units: held, short, expires_at }
        });
        Ok(events)
    }

    fn release(
        &self,
        Holder { order, reservation }: Holder,
        skus: &[Sku],
    ) -> Result<Vec<Event>, Refusal> {
        let units = self.units(reservation, skus)?;
        let mut events = match self.status(reservation) {
            Some(Status::Released { .. }) => return Ok(vec![]),
            Some(Status::Held) => {
                each(units, |sku, quantity| Event::StockReleased { sku, reservation, quantity })
            }
            Some(Status::Committed) => {
                each(units, |sku, quantity| Event::StockReturned { sku, reservation, quantity })
            }
            // Nothing is held; a tombstone keeps a reservation that was overtaken from being made.
            Some(Status::Expired | Status::Rejected) | None => vec![],
        };
        let units = if events.is_empty() { vec![] } else { units.to_vec() };
        events.push(Event::ReservationReleased { order, reservation, units });
        Ok(events)
    }

    /// Gives back some of what is held, as far as it is.
    fn reduce(
        &self,
        Holder { order, reservation }: Holder,
        asked: &[Units],
    ) -> Result<Vec<Event>, Refusal> {
        let held = self.reservations.get(&reservation).ok_or(Refusal::NotFound)?;
        distinct(asked)?;
        let freed = |asked: &Units| {
            let held = held.units.iter().find(|held| held.sku == asked.sku)?;
            let quantity = held.quantity.min(asked.quantity);
            Some(Units { sku: asked.sku.clone(), quantity })
        };
        let units: Vec<_> = asked.iter().filter_map(freed).collect();
        let mut events = match held.status {
            Status::Held => {
                each(&units, |sku, quantity| Event::StockReleased { sku, reservation, quantity })
            }
            Status::Committed => {
                each(&units, |sku, quantity| Event::StockReturned { sku, reservation, quantity })
            }
            // Nothing of it is held now; should it leave all the same, it is less.
            Status::Expired => vec![],
            Status::Rejected | Status::Released { .. } => return Ok(vec![]),
        };
        if !units.is_empty() {
            events.push(Event::ReservationReduced { order, reservation, units });
        }
        Ok(events)
    }

    fn commit(
        &self,
        Holder { order, reservation }: Holder,
        skus: &[Sku],
    ) -> Result<Vec<Event>, Refusal> {
        let units = self.units(reservation, skus)?;
        let committed = |sku, quantity| Event::StockCommitted { sku, reservation, quantity };
        let mut events = match self.status(reservation) {
            None => return Err(Refusal::NotFound),
            Some(Status::Rejected | Status::Released { .. }) => {
                return Err(Refusal::ReservationClosed);
            }
            Some(Status::Committed) => return Ok(vec![]),
            Some(Status::Held) => each(units, committed),
            // The goods are packed, so they leave, whoever else was promised them meanwhile.
            Some(Status::Expired) => {
                let mut events = Vec::new();
                for Units { sku, quantity } in units {
                    events.extend(self.hold_again(sku, *quantity, reservation));
                    events.push(committed(sku.clone(), *quantity));
                }
                events
            }
        };
        events.push(Event::ReservationCommitted { order, reservation, units: units.to_vec() });
        Ok(events)
    }

    /// Takes back into the hold what expired, even where it is not free any more.
    fn hold_again(&self, sku: &Sku, quantity: Quantity, reservation: ReservationId) -> Vec<Event> {
        let stock = self.stock(sku);
        let mut events = Vec::new();
        if let Ok(missing) = Quantity::new(quantity.get().saturating_sub(stock.free())) {
            events.push(Event::OversellRecorded {
                sku: sku.clone(),
                reservation,
                quantity: missing,
            });
        }
        // Units that are in the parcel and not in the books were there all the time.
        if let Some(found @ 1..) = quantity.get().checked_sub(stock.on_hand) {
            events.push(Event::StockAdjusted {
                sku: sku.clone(),
                delta: found.cast_signed(),
                reason: Text::literal("found while packing"),
            });
        }
        events.push(Event::StockReserved { sku: sku.clone(), reservation, quantity });
        events
    }

    /// Holds longer what is held. Who asks too late hears that it has expired.
    fn extend(
        &self,
        holder: Holder,
        skus: &[Sku],
        until: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        let expired = self.expire(holder, skus, at)?;
        let Holder { order, reservation } = holder;
        let held = self.reservations.get(&reservation);
        let held = held.filter(|held| held.status == Status::Held && expired.is_empty());
        let longer = held.and_then(|held| held.expires_at).is_some_and(|now| now < until);
        if !longer {
            return Ok(expired);
        }
        Ok(vec![Event::ReservationExtended { order, reservation, expires_at: until }])
    }

    fn expire(
        &self,
        Holder { order, reservation }: Holder,
        skus: &[Sku],
        at: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        let units = self.units(reservation, skus)?;
        let Some(held) = self.reservations.get(&reservation) else {
            return Err(Refusal::NotFound);
        };
        if held.status != Status::Held || held.expires_at.is_some_and(|expires_at| at < expires_at)
        {
            return Ok(vec![]);
        }
        let mut events =
            each(units, |sku, quantity| Event::StockReleased { sku, reservation, quantity });
        events.push(Event::ReservationExpired { order, reservation, units: units.to_vec() });
        Ok(events)
    }

    fn stock(&self, sku: &Sku) -> Stock {
        self.stock.get(sku).cloned().unwrap_or_default()
    }

    fn stock_mut(&mut self, sku: &Sku) -> &mut Stock {
        self.stock.entry(sku.clone()).or_default()
    }

    fn status(&self, reservation: ReservationId) -> Option<Status> {
        self.reservations.get(&reservation).map(|reservation| reservation.status)
    }

    /// What the reservation holds or held, which the command must name: the streams of other
    /// skus have not been looked at.
    fn units(&self, reservation: ReservationId, named: &[Sku]) -> Result<&[Units], Refusal> {
        let units = self.reservations.get(&reservation).map_or(&[][..], |held| &held.units);
        match units.iter().find(|units| !named.contains(&units.sku)) {
            Some(unnamed) => Err(Refusal::SkuMissing(unnamed.sku.clone())),
            None => Ok(units),
        }
    }

    fn settle(&mut self, reservation: ReservationId, status: Status) {
        let unmade = Reservation { status, units: vec![], expires_at: None };
        self.reservations.entry(reservation).or_insert(unmade).status = status;
    }
}

fn distinct(units: &[Units]) -> Result<(), Refusal> {
    if units.is_empty() {
        return Err(Refusal::Empty);
    }
    if units.len() > SKUS_MAX {
        return Err(Refusal::TooManySkus);
    }
    let mut seen = BTreeSet::new();
    match units.iter().find(|units| !seen.insert(&units.sku)) {
        Some(again) => Err(Refusal::DuplicateSku(again.sku.clone())),
        None => Ok(()),
    }
}

fn each(units: &[Units], event: impl Fn(Sku, Quantity) -> Event) -> Vec<Event> {
    units.iter().map(|units| event(units.sku.clone(), units.quantity)).collect()
}
