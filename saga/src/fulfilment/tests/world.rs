//! Everybody whom the saga works with, in one process and without a clock: the real rules of
//! the four contexts, a provider, a warehouse, a carrier and a customer. Whoever can do
//! something next is an [`Action`]; a test chooses which one, and so the order of all messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher as _};

use aggregates::{inventory::Inventory, order::Order, payment::Payment, shipping::Shipping};
use schemas::inventory::{ReserveMode, Units};
use schemas::order::{CancelReason, HoldReason, Line};
use schemas::payment::DisputeStatus;
use schemas::saga::Verb;
use schemas::shipping::{Scan, Trouble};
use schemas::{
    Address, Category, Command, CommandId, CustomerId, Decider, EventId, Fact, OrderId, Personal,
    Quantity, Recorded, Sku, StreamId, Text, Timestamp, inventory, order, payment, saga, shipping,
};
use uuid::Uuid;

use super::provider::{Call, Card, OTHER_CARD, Provider, euro};
use super::rows::tell;
use super::{Fulfilment, dawn, firing};
use crate::{Act, Heard, Journal, Refusal, Saga as _, What};

/// What the order finds.
#[expect(clippy::struct_excessive_bools, reason = "each is a mishap of its own")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    /// The version of the table that the saga goes by.
    pub(super) version: u16,
    pub(super) card: Card,
    /// The card that the customer names instead, where they may.
    pub(super) other: Card,
    /// How often they do.
    pub(super) replacements: u32,
    /// Of each of the two skus, of which the order wants 2 and 1.
    pub(super) stock: u32,
    pub(super) price_cents: i64,
    /// How often the customer asks for a cancellation.
    pub(super) cancels: u32,
    /// How many answers of the provider get lost on the way, after it has done its work.
    pub(super) unknowns: u32,
    /// How many webhooks it sends.
    pub(super) webhooks: u32,
    /// How many timers go off although nobody is late.
    pub(super) alarms: u32,
    /// How many commands get lost.
    pub(super) losses: u32,
    /// How often everything stands still for an hour.
    pub(super) naps: u32,
    /// Whether another customer takes what is left on the shelf, as soon as they can.
    pub(super) rival: bool,
    pub(super) label_rejected: bool,
    /// Whether the customer's bank may take the money back.
    pub(super) regretful: bool,
    /// Whether the customer may ask their bank for the money back.
    pub(super) disputes: bool,
    /// Whether the carrier may lose the parcel.
    pub(super) clumsy: bool,
    /// How often the warehouse does not find a unit, or nothing at all.
    pub(super) shorts: u32,
    /// How often an operator has the order wait.
    pub(super) holds: u32,
    /// How often the provider lets go of what nobody took in time.
    pub(super) expiries: u32,
    /// How often an operator has the payment tried again.
    pub(super) retries: u32,
}

impl Scenario {
    /// Everything goes well.
    pub(super) const FAIR: Self = Self {
        version: 3,
        card: Card::Good,
        other: Card::Good,
        replacements: 0,
        stock: 5,
        price_cents: 1000,
        cancels: 0,
        unknowns: 0,
        webhooks: 0,
        alarms: 0,
        losses: 0,
        naps: 0,
        rival: false,
        label_rejected: false,
        regretful: false,
        disputes: false,
        clumsy: false,
        shorts: 0,
        holds: 0,
        expiries: 0,
        retries: 0,
    };
}

/// Something that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The saga hears the next event of the log.
    Hear,
    /// The saga hears an event again.
    HearAgain,
    /// The next command for a context is carried out.
    Execute(Category),
    /// It gets lost.
    Drop(Category),
    /// The provider answers.
    Answer,
    /// It does what was asked, and its answer gets lost.
    Forget,
    Webhook,
    Reverse,
    /// The customer asks their bank for the money back.
    Dispute,
    /// The bank decides for us.
    Win,
    /// It decides for the customer.
    Lose,
    Expire,
    Pack,
    Short,
    Label,
    HandOver,
    Deliver,
    LoseParcel,
    Cancel,
    /// The customer confirms the payment with their bank.
    Confirm,
    /// They do not.
    Refuse,
    /// They name another card.
    Replace,
    /// An operator has the order wait.
    Hold,
    /// They, or whoever looks after late orders, have it go on.
    Release,
    /// They have the payment tried again.
    Retry,
    /// Another customer takes what is left.
    Rival,
    /// A timer goes off: the answer is late.
    Alarm,
    /// Time passes, and nobody does anything.
    Nap,
}

/// Who acts; a test may hold somebody back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Saga,
    Inbox(Category),
    Provider,
    Warehouse,
    Carrier,
    Customer,
    Operator,
    Rival,
    Clock,
}

impl Action {
    const fn who(self) -> Who {
        match self {
            Self::Hear | Self::HearAgain => Who::Saga,
            Self::Execute(category) | Self::Drop(category) => Who::Inbox(category),
            Self::Answer
            | Self::Forget
            | Self::Webhook
            | Self::Reverse
            | Self::Dispute
            | Self::Win
            | Self::Lose
            | Self::Expire => Who::Provider,
            Self::Pack | Self::HandOver | Self::Short => Who::Warehouse,
            Self::Hold | Self::Release | Self::Retry => Who::Operator,
            Self::Label | Self::Deliver | Self::LoseParcel => Who::Carrier,
            Self::Cancel | Self::Confirm | Self::Refuse | Self::Replace => Who::Customer,
            Self::Rival => Who::Rival,
            Self::Alarm | Self::Nap => Who::Clock,
        }
    }
}

/// Hashes what is written to it.
struct Fingerprint(DefaultHasher);

impl Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(super) struct World {
    scenario: Scenario,
    id: OrderId,
    log: Vec<Recorded>,
    heard: usize,
    issued: BTreeMap<Category, VecDeque<(CommandId, String, Command)>>,
    ledger: BTreeSet<CommandId>,
    order: Order,
    payment: Payment,
    inventory: Inventory,
    shipping: Shipping,
    pub(super) provider: Provider,
    calls: VecDeque<Call>,
    label_wanted: bool,
    pub(super) journal: Vec<saga::Event>,
    /// What came of it.
    pub(super) folded: Journal<Fulfilment>,
    seconds: i64,
    /// Whether no time passes but where somebody waits for it.
    still: bool,
    held_back: BTreeSet<Who>,
    /// Whether a command got lost.
    lossy: bool,
    /// For people: what happened, a word for each.
    pub(super) told: Vec<String>,
}

impl World {
    /// An order has just been placed.
    pub(super) fn new(scenario: Scenario) -> Self {
        let mut world = Self {
            scenario,
            id: OrderId::new(Uuid::from_u128(0xA11CE)),
            log: Vec::new(),
            heard: 0,
            issued: BTreeMap::new(),
            ledger: BTreeSet::new(),
            order: Order::default(),
            payment: Payment::default(),
            inventory: Inventory::default(),
            shipping: Shipping::default(),
            provider: Provider::new(scenario.card, scenario.other),
            calls: VecDeque::new(),
            label_wanted: false,
            journal: Vec::new(),
            folded: Journal::default(),
            seconds: 0,
            still: false,
            held_back: BTreeSet::new(),
            lossy: false,
            told: Vec::new(),
        };
        if scenario.version != Fulfilment::VERSION {
            // It began before the release that runs now.
            let begun = saga::Event::Started {
                definition: Fulfilment::NAME.to_owned(),
                definition_version: scenario.version,
                business_key: world.id.uuid(),
            };
            world.folded = world.folded.evolve(&begun);
            world.journal.push(begun);
        }
        for sku in ["mug", "tea"] {
            if let Ok(quantity) = Quantity::new(scenario.stock) {
                let sku = sku.parse().unwrap();
                world.inventory(&inventory::Command::Receive { sku, quantity, reference: None });
            }
        }
        world.order(&order::Command::Place {
            customer: CustomerId::new(Uuid::from_u128(7)),
            lines: lines(scenario.price_cents),
            shipping_address: address(),
            payment_method: Text::literal("pm_card_visa"),
            placed_at: dawn(),
        });
        world
    }

    /// The first so many things happen that can, or as many as there are.
    pub(super) fn go(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            let Some(action) = self.actions(false).first().copied() else { break };
            self.act(action);
        }
        self
    }

    /// Everybody does what they can, except those held back, until nobody can do anything.
    pub(super) fn run(&mut self) -> &mut Self {
        self.run_chosen(&[])
    }

    /// The same, the first steps chosen by `choices`.
    pub(super) fn run_chosen(&mut self, choices: &[u8]) -> &mut Self {
        let mut choices = choices.iter();
        for _ in 0..1000 {
            let choice = choices.next().copied();
            let actions = self.actions(choice.is_some());
            let Some(action) = actions.get(usize::from(choice.unwrap_or(0)) % actions.len().max(1))
            else {
                return self;
            };
            self.act(*action);
        }
        panic!("it goes on for ever: {:#?}", self.told);
    }

    /// From here on no time passes but where somebody waits for it: what happens in another order
    /// then leads to the same.
    pub(super) fn stand_still(&mut self) -> &mut Self {
        self.still = true;
        self
    }

    /// Everything that can happen next, mishaps as well; that something is heard again is left out.
    pub(super) fn choices(&self) -> Vec<Action> {
        let mut choices = self.actions(true);
        choices.retain(|action| *action != Action::HearAgain);
        for action in self.actions(false) {
            if !choices.contains(&action) {
                choices.push(action);
            }
        }
        choices
    }

    /// Whether the saga has heard anything.
    pub(super) fn has_heard(&self) -> bool {
        self.heard > 0
    }

    /// Whether nobody has anything left to do, and no timer runs.
    pub(super) fn is_over(&self) -> bool {
        self.actions(false).is_empty()
    }

    /// Everything that what happens next depends on, as one number: the way here is left out.
    pub(super) fn fingerprint(&self) -> u64 {
        let todo: Vec<_> = self.log[self.heard..].iter().map(|event| &event.fact).collect();
        let queues = (&self.issued, &self.ledger, &self.calls, todo, self.label_wanted);
        let world = (&self.order, &self.payment, &self.inventory, &self.shipping, &self.provider);
        // A webhook's subject goes by how much has been told.
        let webhook = if self.scenario.webhooks > 0 { self.told.len() % 2 } else { 0 };
        let rest = (self.scenario, self.seconds, self.lossy, webhook);
        let mut fingerprint = Fingerprint(DefaultHasher::new());
        write!(fingerprint, "{queues:?}{world:?}{:?}{rest:?}", self.folded).unwrap();
        fingerprint.0.finish()
    }

    /// From here on `who` does nothing.
    pub(super) fn hold(&mut self, who: Who) -> &mut Self {
        self.held_back.insert(who);
        self
    }

    /// And now they do again.
    pub(super) fn let_go(&mut self, who: Who) -> &mut Self {
        self.held_back.remove(&who);
        self
    }

    pub(super) fn state(&self) -> &'static str {
        self.folded.state().name()
    }

    /// What can happen next. Mishaps only where they are `asked` for, and timers where nothing
    /// else is left to do.
    fn actions(&self, asked: bool) -> Vec<Action> {
        let ships = |command| self.shipping.decide(&command).is_ok_and(|events| !events.is_empty());
        let waiting = |category| self.issued.get(&category).is_some_and(|queue| !queue.is_empty());
        let mut actions = Vec::new();
        let mut may = |whether: bool, action: Action| {
            if whether && !self.held_back.contains(&action.who()) {
                actions.push(action);
            }
        };
        may(self.heard < self.log.len(), Action::Hear);
        for category in Category::ALL {
            may(waiting(category), Action::Execute(category));
        }
        may(!self.calls.is_empty(), Action::Answer);
        may(self.provider.asks().is_some(), Action::Confirm);
        may(self.label_wanted, Action::Label);
        may(ships(shipping::Command::Pack), Action::Pack);
        may(ships(shipping::Command::HandOver), Action::HandOver);
        may(self.has_left() && ships(delivered()), Action::Deliver);
        if asked {
            let request = order::Command::RequestCancellation { reason: CancelReason::Customer };
            let open = self.order.decide(&request).is_ok_and(|events| !events.is_empty());
            may(self.scenario.cancels > 0 && open, Action::Cancel);
            let forgets = self.calls.front().is_some_and(|call| Provider::unknown(call).is_some());
            may(self.scenario.unknowns > 0 && forgets, Action::Forget);
            may(self.scenario.webhooks > 0 && self.provider.known().is_some(), Action::Webhook);
            may(self.provider.asks().is_some(), Action::Refuse);
            let replaces =
                self.scenario.replacements > 0 && self.payment.decide(&replace()).is_ok();
            may(replaces, Action::Replace);
            may(self.scenario.rival && self.may_rival(), Action::Rival);
            may(self.scenario.naps > 0, Action::Nap);
            may(self.scenario.holds > 0 && self.is_open(&hold()), Action::Hold);
            may(self.scenario.shorts > 0 && ships(self.short()), Action::Short);
            let retries = payment::Command::Retry;
            let retries = self.scenario.retries > 0 && self.payment.decide(&retries).is_ok();
            may(retries, Action::Retry);
            let expires = self.scenario.expiries > 0 && self.provider.may_expire().is_some();
            may(expires, Action::Expire);
            let reverses = self.scenario.regretful && self.provider.may_reverse().is_some();
            may(reverses, Action::Reverse);
            may(self.scenario.disputes && self.provider.may_dispute(), Action::Dispute);
            may(self.provider.may_judge(), Action::Win);
            may(self.provider.may_judge(), Action::Lose);
            may(self.scenario.clumsy && self.has_left() && ships(lost()), Action::LoseParcel);
            may(self.scenario.alarms > 0 && self.timer().is_some(), Action::Alarm);
            for category in Category::ALL {
                may(self.scenario.losses > 0 && self.may_lose(category), Action::Drop(category));
            }
            may(self.heard > 0, Action::HearAgain);
        }
        // Whoever looks after what waits does so when everybody else is done.
        if actions.is_empty() && !self.held_back.contains(&Who::Operator) {
            actions.extend(self.held_for().map(|_| Action::Release));
        }
        let is_quiet = actions.is_empty();
        if is_quiet && self.timer().is_some() && !self.held_back.contains(&Who::Clock) {
            actions.push(Action::Alarm);
        }
        actions
    }

    pub(super) fn act(&mut self, action: Action) -> &mut Self {
        self.seconds += i64::from(!self.still);
        self.told.push(format!("{action:?}"));
        match action {
            Action::Hear => {
                let event = self.log[self.heard].clone();
                self.heard += 1;
                self.hear(&event);
            }
            Action::HearAgain => {
                let before = self.journal.len();
                let event = self.log[self.heard / 2].clone();
                self.hear(&event);
                assert_eq!(self.journal.len(), before, "heard twice, written twice");
            }
            Action::Execute(category) => self.execute(category),
            Action::Drop(category) => {
                self.scenario.losses -= 1;
                self.lossy = true;
                self.issued.entry(category).or_default().pop_front();
            }
            Action::Answer => {
                let call = self.calls.pop_front().unwrap();
                if let Some(answer) = self.provider.answer(&call) {
                    self.payment(&answer);
                }
            }
            Action::Forget => {
                self.scenario.unknowns -= 1;
                let call = self.calls.pop_front().unwrap();
                self.provider.answer(&call);
                self.payment(&Provider::unknown(&call).unwrap());
            }
            Action::Webhook => {
                self.scenario.webhooks = self.scenario.webhooks.saturating_sub(1);
                let known = self.provider.known().unwrap();
                let state = self.provider.state(known[self.told.len() % known.len()]);
                self.payment(&state);
            }
            Action::Pack => self.shipping(&shipping::Command::Pack),
            Action::Label => self.label(),
            Action::HandOver => {
                // I3
                let free = self.scenario.price_cents == 0;
                let disputed = self.provider.dispute.is_some();
                let paid = self.provider.keeps() > 0 || self.provider.reversed || disputed;
                assert!(free || paid, "handed over before it was paid");
                self.shipping(&shipping::Command::HandOver);
            }
            Action::Deliver => self.shipping(&delivered()),
            Action::LoseParcel => self.shipping(&lost()),
            Action::Cancel
            | Action::Confirm
            | Action::Refuse
            | Action::Replace
            | Action::Reverse
            | Action::Dispute
            | Action::Win
            | Action::Lose => self.customer(action),
            Action::Hold | Action::Release | Action::Retry | Action::Short | Action::Expire => {
                self.hinder(action);
            }
            Action::Alarm => {
                self.scenario.alarms = self.scenario.alarms.saturating_sub(1);
                let (name, epoch, due) = self.timer().unwrap();
                self.seconds = self.seconds.max((due - dawn()).num_seconds());
                self.fire(&name, epoch);
            }
            Action::Nap | Action::Rival => self.hinder(action),
        }
        self
    }

    /// What the customer does, or their bank.
    fn customer(&mut self, action: Action) {
        match action {
            Action::Reverse => {
                let op = self.provider.may_reverse().unwrap();
                let look = self.provider.reverse(op);
                self.calls.push_back(look);
            }
            Action::Dispute => {
                let look = self.provider.open_dispute();
                self.calls.push_back(look);
            }
            Action::Win | Action::Lose => {
                let won = action == Action::Win;
                let says = if won { DisputeStatus::Won } else { DisputeStatus::Lost };
                let look = self.provider.judge(says);
                self.calls.push_back(look);
            }
            Action::Cancel => {
                self.scenario.cancels = self.scenario.cancels.saturating_sub(1);
                let reason = CancelReason::Customer;
                self.order(&order::Command::RequestCancellation { reason });
            }
            Action::Confirm | Action::Refuse => {
                let op = self.provider.asks().unwrap();
                let look = self.provider.confirm(op, action == Action::Confirm);
                self.calls.push_back(look);
            }
            _ => {
                self.scenario.replacements = self.scenario.replacements.saturating_sub(1);
                self.payment(&replace());
            }
        }
    }

    /// What has an order wait or end otherwise, and what has it go on.
    fn hinder(&mut self, action: Action) {
        match action {
            Action::Short => {
                let short = self.short();
                self.scenario.shorts -= 1;
                self.shipping(&short);
            }
            Action::Expire => {
                self.scenario.expiries -= 1;
                let op = self.provider.may_expire().unwrap();
                let look = self.provider.expire(op);
                self.calls.push_back(look);
            }
            Action::Nap => {
                self.scenario.naps -= 1;
                self.seconds += 3600;
            }
            Action::Rival => {
                self.scenario.rival = false;
                self.inventory(&self.rival());
            }
            Action::Hold => {
                self.scenario.holds -= 1;
                self.order(&hold());
            }
            Action::Release => {
                let reason = self.held_for();
                self.order(&order::Command::Release { reason });
            }
            _ => {
                self.scenario.retries -= 1;
                self.payment(&payment::Command::Retry);
            }
        }
    }

    /// What the order waits for that a person ends: not the money.
    fn held_for(&self) -> Option<HoldReason> {
        let waits =
            |reason: &HoldReason| self.is_open(&order::Command::Release { reason: Some(*reason) });
        [HoldReason::Fraud, HoldReason::Warehouse].into_iter().find(waits)
    }

    /// Whether the order does something about `command`.
    fn is_open(&self, command: &order::Command) -> bool {
        self.order.decide(command).is_ok_and(|events| !events.is_empty())
    }

    /// One of the mugs is missing, or everything.
    fn short(&self) -> shipping::Command {
        let unit = |sku: &str, quantity| Units {
            sku: sku.parse().unwrap(),
            quantity: Quantity::new(quantity).unwrap(),
        };
        let all = vec![unit("mug", 2), unit("tea", 1)];
        let some = vec![unit("mug", 1)];
        shipping::Command::ReportShort { short: if self.scenario.shorts > 1 { all } else { some } }
    }

    /// How many units turned out not to be there.
    pub(super) fn missing(&self) -> i64 {
        let missing = self.facts().map(|fact| match fact {
            Fact::Shipping(shipping::Event::ShortPicked { short, .. }) => {
                short.iter().map(|units| i64::from(units.quantity.get())).sum()
            }
            _ => 0,
        });
        missing.sum()
    }

    /// Fires one start of one timer, whether it runs or not.
    pub(super) fn fire(&mut self, name: &str, epoch: u32) -> &mut Self {
        let source = firing(self.id.saga(), name, epoch);
        let what = What::TimerFired { name: name.to_owned(), epoch };
        self.put(&Heard { key: self.id.uuid(), source, at: self.now(), what });
        self
    }

    fn hear(&mut self, event: &Recorded) {
        let Some((key, input)) = Fulfilment::correlate(event) else { return };
        if key != self.id.uuid() {
            return;
        }
        let (source, at) = (event.event_id.uuid(), event.recorded_at);
        self.put(&Heard { key, source, at, what: What::Input(input) });
    }

    /// The provider does what it was asked last, and is not heard yet.
    pub(super) fn provider_does(&mut self) -> &mut Self {
        if let Some(call) = self.calls.back() {
            self.provider.answer(call);
        }
        self
    }

    /// A person has looked at it, and has it go on.
    pub(super) fn resume(&mut self) -> &mut Self {
        self.operate(super::verbs::does(Verb::Resume)).unwrap();
        self
    }

    /// A person does something about it, if they may.
    pub(super) fn operate(&mut self, act: Act) -> Result<(), Refusal> {
        self.seconds += 1;
        let source = Uuid::from_u128(0xAC7_0000 + self.journal.len() as u128);
        let heard = Heard { key: self.id.uuid(), source, at: self.now(), what: What::Act(act) };
        self.folded.decide(&heard)?;
        self.put(&heard);
        Ok(())
    }

    fn put(&mut self, heard: &Heard<super::Input>) {
        let events = self.folded.decide(heard).unwrap();
        for event in &events {
            if let saga::Event::CommandIssued { command_id, step, command, .. } = event {
                let category = command.streams()[0].category;
                let issued = (*command_id, step.clone(), command.clone());
                self.issued.entry(category).or_default().push_back(issued);
            }
        }
        self.told.extend(events.iter().filter_map(tell));
        self.folded = events.iter().fold(self.folded.clone(), Journal::evolve);
        self.journal.extend(events);
    }

    fn execute(&mut self, category: Category) {
        let (id, _, command) = self.issued.get_mut(&category).unwrap().pop_front().unwrap();
        if self.ledger.contains(&id) {
            return;
        }
        let refused = match &command {
            Command::Order { command, .. } => self.order.decide(command).err().map(code),
            Command::Payment { command, .. } => self.payment.decide(command).err().map(code),
            Command::Inventory { command } => self.inventory.decide(command).err().map(code),
            Command::Shipping { command, .. } => self.shipping.decide(command).err().map(code),
        };
        // The inbox parks what is refused. Nothing a saga asks for is, unless what it asked for
        // before got lost; and then the same may be asked again later.
        if let Some(code) = refused {
            assert!(self.lossy, "refused {command:?}: {code}: {:#?}", self.told);
            return;
        }
        self.ledger.insert(id);
        match &command {
            Command::Order { command, .. } => self.order(command),
            Command::Payment { command, .. } => self.payment(command),
            Command::Inventory { command } => self.inventory(command),
            Command::Shipping { command, .. } => self.shipping(command),
        }
    }

    fn order(&mut self, command: &order::Command) {
        let events = self.order.decide(command).unwrap();
        for event in events {
            self.order = self.order.clone().evolve(&event);
            self.record(self.id.stream(), Fact::Order(event));
        }
    }

    fn payment(&mut self, command: &payment::Command) {
        let events = self.payment.decide(command).unwrap();
        for event in events {
            self.payment = self.payment.clone().evolve(&event);
            self.calls.extend(self.provider.call(&event));
            self.record(self.id.payment().stream(), Fact::Payment(event));
        }
    }

    fn inventory(&mut self, command: &inventory::Command) {
        let events = self.inventory.decide(command).unwrap();
        for event in events {
            self.inventory = self.inventory.clone().evolve(&event);
            self.record(event.stream(), Fact::Inventory(event));
        }
    }

    fn shipping(&mut self, command: &shipping::Command) {
        let events = self.shipping.decide(command).unwrap();
        for event in events {
            self.shipping = self.shipping.clone().evolve(&event);
            self.label_wanted |= matches!(event, shipping::Event::Packed { .. });
            self.record(self.id.fulfilment().stream(), Fact::Shipping(event));
        }
    }

    fn label(&mut self) {
        self.label_wanted = false;
        let (carrier_ref, tracking_code) = (Text::literal("shp_1"), Text::literal("TRACK1"));
        let code = Text::literal("address");
        self.shipping(&if self.scenario.label_rejected {
            shipping::Command::RecordLabelRejected { code }
        } else {
            shipping::Command::RecordLabel { carrier_ref, tracking_code }
        });
    }

    fn record(&mut self, stream: StreamId, fact: Fact) {
        self.told.push(word(&fact));
        let position = i64::try_from(self.log.len()).unwrap() + 1;
        let nth = self.log.iter().filter(|event| event.stream == stream).count();
        self.log.push(Recorded {
            position,
            stream,
            version: position,
            event_type: String::new(),
            // Of its place in its stream, so that it does not matter what happened elsewhere.
            event_id: EventId::derive(stream.id, &nth.to_string()),
            command_id: CommandId::new(Uuid::nil()),
            correlation_id: self.id.uuid(),
            causation_id: Uuid::nil(),
            occurred_at: self.now(),
            recorded_at: self.now(),
            traceparent: None,
            actor: "test".to_owned(),
            fact,
        });
    }

    fn now(&self) -> Timestamp {
        dawn() + std::time::Duration::from_secs(self.seconds.unsigned_abs())
    }

    /// The timer that is due next, by the events that the poller's table is made from.
    fn timer(&self) -> Option<(String, u32, Timestamp)> {
        let mut running = BTreeMap::new();
        for event in &self.journal {
            match event {
                saga::Event::TimerStarted { name, epoch, due } => {
                    running.insert(name.clone(), (*epoch, *due));
                }
                saga::Event::Finished { .. } => running.clear(),
                other => {
                    if let Some(name) = crate::timers::stopped(other) {
                        running.remove(name);
                    }
                }
            }
        }
        let next = running.into_iter().min_by_key(|(_, (_, due))| *due);
        next.map(|(name, (epoch, due))| (name, epoch, due))
    }

    /// Whether goods are left that the order has given up, so that another customer may have them.
    fn may_rival(&self) -> bool {
        let expired = |fact: &Fact| {
            matches!(fact, Fact::Inventory(inventory::Event::ReservationExpired { .. }))
        };
        self.facts().any(expired) && self.inventory.decide(&self.rival()).is_ok()
    }

    fn rival(&self) -> inventory::Command {
        let order = OrderId::new(Uuid::from_u128(0xB0B));
        let quantity = Quantity::new(self.scenario.stock.max(1) * 2).unwrap();
        let units = ["mug", "tea"].map(|sku| Units { sku: sku.parse().unwrap(), quantity });
        let (mode, expires_at) = (ReserveMode::Partial, self.now());
        let (reservation, units) = (order.reservation(), units.to_vec());
        inventory::Command::Reserve { order, reservation, units, mode, expires_at }
    }

    /// Only what is waited for may get lost: of the rest the inbox itself takes care.
    fn may_lose(&self, category: Category) -> bool {
        let next = self.issued.get(&category).and_then(|queue| queue.front());
        next.is_some_and(|(_, step, _)| {
            let step = <super::super::Step as crate::Name>::parse(step).unwrap();
            Fulfilment::patience(step).is_some()
        })
    }

    fn has_left(&self) -> bool {
        self.facts().any(|fact| matches!(fact, Fact::Shipping(shipping::Event::HandedOver { .. })))
    }

    /// The log so far.
    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.log.iter().map(|event| &event.fact)
    }

    /// How many units are promised to the order, and how many are on hand, by the events alone.
    pub(super) fn stock(&self) -> (i64, i64) {
        use inventory::Event;
        self.facts().fold((0, 0), |(reserved, on_hand), fact| match fact {
            Fact::Inventory(
                Event::StockReceived { quantity, .. } | Event::StockReturned { quantity, .. },
            ) => (reserved, on_hand + i64::from(quantity.get())),
            Fact::Inventory(Event::StockReserved { quantity, reservation, .. })
                if *reservation == self.id.reservation() =>
            {
                (reserved + i64::from(quantity.get()), on_hand)
            }
            Fact::Inventory(Event::StockReleased { quantity, .. }) => {
                (reserved - i64::from(quantity.get()), on_hand)
            }
            Fact::Inventory(Event::StockCommitted { quantity, .. }) => {
                (reserved - i64::from(quantity.get()), on_hand - i64::from(quantity.get()))
            }
            _ => (reserved, on_hand),
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map`")]
fn code(refusal: impl schemas::Refusal) -> &'static str {
    refusal.code()
}

/// The name of a fact, without what is in it.
fn word(fact: &Fact) -> String {
    let words = format!("{fact:?}");
    words.split(" {").next().unwrap_or_default().to_owned()
}

fn hold() -> order::Command {
    order::Command::Hold { reason: HoldReason::Fraud }
}

fn replace() -> payment::Command {
    payment::Command::ReplaceMethod { method: Text::literal(OTHER_CARD) }
}

fn lost() -> shipping::Command {
    shipping::Command::RecordTrouble {
        carrier_event: Text::literal("trouble_1"),
        trouble: Trouble::Lost,
        at: dawn(),
    }
}

fn delivered() -> shipping::Command {
    shipping::Command::RecordScan {
        carrier_event: Text::literal("scan_1"),
        scan: Scan::Delivered,
        at: dawn(),
    }
}

pub(super) fn lines(price_cents: i64) -> Vec<Line> {
    // The mug stands on two lines: it is reserved and sent as one.
    let line = |sku: &str| Line {
        sku: sku.parse::<Sku>().unwrap(),
        title: Text::literal("A fine thing"),
        quantity: Quantity::new(1).unwrap(),
        unit_price: euro(price_cents),
    };
    vec![line("mug"), line("tea"), line("mug")]
}

pub(super) fn address() -> Personal<Address> {
    Personal::sealed(CustomerId::new(Uuid::from_u128(0xADA)), b"sealed")
}
