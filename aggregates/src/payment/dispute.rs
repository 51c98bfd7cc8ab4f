//! Disputes: the customer has asked their bank for the money back, and the bank has it until it
//! decides to whom it belongs.

use schemas::payment::{Command, DisputeStatus, Event};
use schemas::{Money, OrderId, Text};
use serde::{Deserialize, Serialize};

use super::Payment;
use super::answer::only;

/// A dispute and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(super) struct Dispute {
    pub(super) amount: Money,
    pub(super) status: DisputeStatus,
}

impl Payment {
    /// What `command`, which is word of a dispute, tells us that we did not know.
    pub(super) fn disputed(&self, order: OrderId, command: &Command) -> Vec<Event> {
        match command {
            Command::RecordDisputeNotice { notification, dispute, provider_ref } => {
                let news = !self.notifications.contains(notification);
                let (notification, dispute) = (notification.clone(), dispute.clone());
                let provider_ref = provider_ref.clone();
                only(news, Event::DisputeNotified { order, notification, dispute, provider_ref })
            }
            Command::RecordDispute { dispute, status, amount, reason, evidence_due } => {
                let (amount, reason, evidence_due) = (*amount, reason.clone(), *evidence_due);
                let id = dispute.clone();
                let opened =
                    Event::DisputeOpened { order, dispute: id, amount, reason, evidence_due };
                match self.disputes.get(dispute) {
                    None if self.is_due(amount) => {
                        let closed = closed(order, dispute, amount, *status);
                        [Some(opened), closed].into_iter().flatten().collect()
                    }
                    // What it was opened about is what comes back or is lost.
                    Some(Dispute { amount, status: DisputeStatus::Open }) => {
                        Vec::from_iter(closed(order, dispute, *amount, *status))
                    }
                    // What the bank decided it does not decide again.
                    None | Some(_) => vec![],
                }
            }
            _ => vec![],
        }
    }

    /// Whether so much may have been paid. That it was captured may be told later.
    fn is_due(&self, amount: Money) -> bool {
        let asked = self.asked.as_ref().map(|(asked, _)| asked.currency);
        amount.amount > 0 && asked == Some(amount.currency)
    }

    /// What `event` says of a dispute.
    pub(super) fn dispute_moves(&mut self, event: &Event) {
        let (dispute, amount, status) = match event {
            Event::DisputeOpened { dispute, amount, .. } => (dispute, amount, DisputeStatus::Open),
            Event::DisputeWon { dispute, amount, .. } => (dispute, amount, DisputeStatus::Won),
            Event::DisputeLost { dispute, amount, .. } => (dispute, amount, DisputeStatus::Lost),
            _ => return,
        };
        self.disputes.insert(dispute.clone(), Dispute { amount: *amount, status });
    }

    /// What banks have, or gave to the customer.
    pub(super) fn withdrawn(&self) -> impl Iterator<Item = Money> {
        let ours = |dispute: &&Dispute| dispute.status != DisputeStatus::Won;
        self.disputes.values().filter(ours).map(|dispute| dispute.amount)
    }
}

/// How it ended, if it has.
fn closed(order: OrderId, dispute: &Text, amount: Money, status: DisputeStatus) -> Option<Event> {
    let dispute = dispute.clone();
    match status {
        DisputeStatus::Open => None,
        DisputeStatus::Won => Some(Event::DisputeWon { order, dispute, amount }),
        DisputeStatus::Lost => Some(Event::DisputeLost { order, dispute, amount }),
    }
}
