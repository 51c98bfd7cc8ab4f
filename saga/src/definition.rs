//! What a saga is: a name, and one pure function from what it hears to what it wants.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use schemars::JsonSchema;
use schemas::{Command, Recorded, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// A saga, which is its state and the table of what follows from what.
///
/// Everything here is pure: no clock, no chance, no I/O. The runtime keeps the journal, sends
/// and resends, and wakes. A version that has ever run stays compiled in until its last saga
/// has ended, since a journal is read back by calling `react` again.
pub trait Saga:
    Default + Clone + fmt::Debug + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The name of the definition, as `order-fulfilment`. Ids are derived from it.
    const NAME: &'static str;
    /// The version that new sagas get.
    const VERSION: u16;
    /// Raised when `react` makes another state of the same inputs within a version, so that
    /// snapshots of old are ignored.
    const REVISION: u16 = 1;
    /// What it can hear, in its own words; stored in its journal as JSON.
    type Input: Serialize + DeserializeOwned + JsonSchema + Clone + fmt::Debug + Send + Sync;
    /// What it asks of others. The name is part of the command's id, so it is never changed.
    type Step: Name + Serialize + DeserializeOwned + JsonSchema;
    /// Its own deadlines; [`Never`] if it has none.
    type Timer: Name;
    /// What it tells people of without waiting for them; [`Never`] if nothing.
    type Alert: Name;

    /// The business key that an event is about, and what the saga reads in it. None where no
    /// row of the table listens, so that nothing is stored.
    fn correlate(event: &Recorded) -> Option<(Uuid, Self::Input)>;

    /// What follows. `now` is the time that the input goes by.
    #[must_use]
    fn react(self, version: u16, input: &Self::Input, now: Timestamp) -> Reaction<Self>;

    /// The step that `input` answers, and how. Counts only while that step waits for an answer.
    fn answers(input: &Self::Input) -> Option<(Self::Step, Answer)>;

    /// How long to wait for the answer to a step; none where nobody answers.
    fn patience(step: Self::Step) -> Option<Patience>;

    /// What a deadline is to the table.
    fn fired(timer: Self::Timer) -> Self::Input;

    /// The state's name.
    fn name(&self) -> &'static str;

    /// What it would have heard if `step` had been done, or could not be: for a person who says so.
    /// None where nobody's word is enough.
    fn said(&self, step: Self::Step, done: bool) -> Option<Self::Input> {
        let _ = (step, done);
        None
    }

    /// Whether a person may have it go on without `step`, of whom nobody knows whether it was done:
    /// only where it tells somebody something, and moves neither money nor goods.
    fn may_skip(step: Self::Step) -> bool {
        let _ = step;
        false
    }

    /// How it begins to undo because a person says so; ignored where there is no way back.
    #[must_use]
    fn compensate(self, version: u16) -> Reaction<Self> {
        let _ = version;
        Reaction::Ignored
    }

    /// Whether money or goods may still be held, so that nobody should leave it alone.
    fn holds(&self) -> bool {
        true
    }
}

/// What one row of the table says.
#[derive(Debug, Clone, PartialEq)]
pub enum Reaction<S: Saga> {
    /// The input counts: this is the next state, and what it wants.
    Taken(S, Vec<Output<S>>),
    /// The input is not listed for this state and changes nothing.
    Ignored,
    /// The input can only be understood later: keep it and ask again after the next one.
    Deferred,
}

impl<S: Saga> Reaction<S> {
    /// Goes on to `state`, so far wanting nothing.
    #[must_use]
    pub fn next(state: S) -> Self {
        Self::Taken(state, Vec::new())
    }

    /// And asks for `command`.
    #[must_use]
    pub fn send(self, step: S::Step, command: Command) -> Self {
        self.and(Output::Send { step, command, compensation: false })
    }

    /// And asks for `command`, which gives something back.
    #[must_use]
    pub fn undo(self, step: S::Step, command: Command) -> Self {
        self.and(Output::Send { step, command, compensation: true })
    }

    /// And wants `output`.
    #[must_use]
    pub fn and(mut self, output: Output<S>) -> Self {
        if let Self::Taken(_, outputs) = &mut self {
            outputs.push(output);
        }
        self
    }
}

/// What a saga wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<S: Saga> {
    /// Ask somebody. A step sent again is a new attempt with a new command id, so this takes a
    /// definite failure before it, or a command that may be carried out twice.
    Send {
        /// The step's name.
        step: S::Step,
        /// What, and of whom.
        command: Command,
        /// Whether it gives something back.
        compensation: bool,
    },
    /// Ask the same again under the same id: it is carried out once, however often it is sent.
    Resend(S::Step),
    /// Wake me then. A timer that runs already starts anew.
    StartTimer(S::Timer, Duration),
    /// Do not wake me any more.
    StopTimer(S::Timer),
    /// From here on it gives back: nothing that went forward is sent again, unless nobody knows
    /// what became of it.
    StartCompensation(&'static str),
    /// Somebody should know; it goes on by itself.
    Alert(S::Alert),
    /// A person has to look: everything heard from now on is kept for later.
    Park(&'static str),
    /// It ended. What comes in later is still heard, so that late money goes back.
    Finish(&'static str),
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Answer {
    /// What was asked was done.
    Done,
    /// It was not done, and will not be.
    Failed,
    /// Whoever was asked does not know. The step goes on waiting; when its patience is over the
    /// question is put again as a new command, since the old one has been carried out.
    Unknown,
}

/// How long to wait for an answer. Silence is never taken for a failure: the same command is
/// sent again under the same id, and in the end a person has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long the first sending has; doubles with every further one.
    pub wait: Duration,
    /// The longest that any sending has.
    pub wait_max: Duration,
    /// How often it is sent before the saga is parked.
    pub sendings_max: u32,
    /// The reason to park.
    pub park: &'static str,
}

impl Patience {
    /// How long sending number `sending` has, counted from 1.
    #[must_use]
    pub fn after(self, sending: u32) -> Duration {
        let doublings = sending.saturating_sub(1).min(16);
        self.wait.saturating_mul(1 << doublings).min(self.wait_max)
    }
}

/// The closed set of names of a saga's steps or timers. Write it with `names!`.
pub trait Name: Copy + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// Every name.
    const ALL: &'static [Self];

    /// The name that is stored.
    fn as_str(self) -> &'static str;

    /// Reads a stored name.
    #[must_use]
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.as_str() == text)
    }
}

/// The timers of a saga that has none, or its alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Never {}

impl Name for Never {
    const ALL: &'static [Self] = &[];

    fn as_str(self) -> &'static str {
        match self {}
    }
}

/// Makes an enum of names.
macro_rules! names {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        $vis enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $crate::Name for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

pub(crate) use names;
