//! Payments: a ledger of what was asked of the payment provider and what it answered.
//!
//! Every request is recorded before the provider is called (`…Requested`), so that no answer is
//! ever without a question. `op` numbers the authorisations of a payment: it grows only after a
//! definite failure, and the provider's idempotency key is made of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Category, Link, Money, OrderId, PaymentId, RefundId, StreamId, Text, Timestamp, Upcast,
};

/// What was asked of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Hold money.
    Authorise,
    /// Take what is held.
    Capture,
    /// Let go of what is held.
    Void,
    /// Give back what was taken.
    Refund,
}

/// How the provider's own record of the payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderStatus {
    /// It wants another means of payment: the last one was declined.
    RequiresMethod,
    /// It wants the customer to do something, as to confirm the payment with their bank.
    RequiresAction,
    /// Money is held.
    RequiresCapture,
    /// Money was taken.
    Succeeded,
    /// Closed, nothing is held.
    Cancelled,
    /// Closed by the provider itself, since nobody took in time what was held.
    Expired,
    /// Still at it.
    Processing,
}

/// How a dispute stands: the customer has asked their bank for the money back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisputeStatus {
    /// The bank has not decided; until it does, the money is with it.
    Open,
    /// The money came back to us.
    Won,
    /// The customer has it.
    Lost,
}

/// What can be asked of a payment: by the saga, and by whoever hears the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Command {
    /// Open the ledger.
    Create {
        /// For which order.
        order: OrderId,
        /// What is due.
        amount: Money,
        /// The provider's token for the means of payment.
        method: Text,
    },
    /// Hold the money. Opens the ledger where that has not been done.
    Authorise {
        /// For which order.
        order: OrderId,
        /// How much.
        amount: Money,
        /// The provider's token.
        method: Text,
    },
    /// The customer names another means of payment, where one is wanted: after a decline that they
    /// can mend, or instead of what their bank asks of them.
    ReplaceMethod {
        /// The provider's token.
        method: Text,
    },
    /// Somebody wants it tried once more: what could not be taken, or not be held.
    Retry,
    /// Take the money that is held.
    Capture {
        /// How much, at most what is held.
        amount: Money,
    },
    /// Nothing is wanted any more: close what is open, and let later money go back by itself.
    Void {
        /// For which order.
        order: OrderId,
    },
    /// Give money back.
    Refund {
        /// Which refund.
        refund: RefundId,
        /// How much.
        amount: Money,
    },
    /// The provider holds the money.
    RecordAuthorised {
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment.
        provider_ref: Text,
        /// How much is held.
        amount: Money,
        /// For how long.
        until: Timestamp,
    },
    /// The provider said no.
    RecordDeclined {
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment, where it made one.
        provider_ref: Option<Text>,
        /// The provider's code, as `card_declined`.
        code: Text,
        /// Whether the customer may try again with another means.
        retryable: bool,
    },
    /// The provider wants the customer to do something first.
    RecordActionRequired {
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment.
        provider_ref: Text,
        /// Where they do it.
        url: Link,
    },
    /// Nobody knows what became of the request.
    RecordUnknown {
        /// Which authorisation it belongs to.
        op: u32,
        /// What was asked.
        operation: Operation,
    },
    /// The provider took the money.
    RecordCaptured {
        /// How much.
        amount: Money,
    },
    /// The provider did not take the money.
    RecordCaptureFailed {
        /// The provider's code.
        code: Text,
        /// Whether asking again may help.
        retryable: bool,
    },
    /// The provider let go of the money.
    RecordVoided,
    /// The provider gave money back.
    RecordRefunded {
        /// Which refund.
        refund: RefundId,
        /// How much.
        amount: Money,
    },
    /// The provider did not give the money back.
    RecordRefundFailed {
        /// Which refund.
        refund: RefundId,
        /// The provider's code.
        code: Text,
    },
    /// The provider sent word (a webhook): somebody should look.
    RecordNotification {
        /// The provider's id of the notification.
        notification: Text,
        /// The provider's id of the payment.
        provider_ref: Text,
        /// How the provider's record stood when it wrote.
        status: ProviderStatus,
    },
    /// The provider sent word (a webhook) of a dispute: somebody should look.
    RecordDisputeNotice {
        /// The provider's id of the notification.
        notification: Text,
        /// The provider's id of the dispute.
        dispute: Text,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// This is how the provider's record of a dispute stands: note what we did not know.
    RecordDispute {
        /// The provider's id of the dispute.
        dispute: Text,
        /// How it stands.
        status: DisputeStatus,
        /// How much it is about.
        amount: Money,
        /// The provider's word for why, as `fraudulent`.
        reason: Text,
        /// Until when the bank takes evidence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence_due: Option<Timestamp>,
    },
    /// This is how the provider's record stands: note what we did not know.
    RecordProviderState {
        /// The provider's id of the payment.
        provider_ref: Text,
        /// How it stands.
        status: ProviderStatus,
        /// What is held or was, before capture.
        authorised: Money,
        /// What was taken.
        captured: Money,
        /// For how long it is held.
        until: Timestamp,
        /// Where the customer does what is wanted of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<Link>,
        /// The last decline.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decline: Option<Decline>,
    },
}

/// Why the provider said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decline {
    /// The provider's code, as `card_declined`.
    pub code: Text,
    /// Whether the customer may try again with another means.
    pub retryable: bool,
}

/// Everything that can happen to a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// The ledger was opened.
    #[serde(rename = "payment.created.v1")]
    Created {
        /// For which order.
        order: OrderId,
        /// What is due.
        amount: Money,
        /// The provider's token.
        method: Text,
    },
    /// The provider is to hold money.
    #[serde(rename = "payment.authorisation_requested.v1")]
    AuthorisationRequested {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// How much.
        amount: Money,
        /// The provider's token.
        method: Text,
    },
    /// The provider holds the money.
    #[serde(rename = "payment.authorised.v1")]
    Authorised {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// How much.
        amount: Money,
        /// The provider's id of the payment.
        provider_ref: Text,
        /// For how long.
        until: Timestamp,
    },
    /// The provider said no, or we did because nothing is wanted any more (`code` `voided`).
    #[serde(rename = "payment.declined.v1")]
    Declined {
        /// For which order.
        order: OrderId,
        /// Which authorisation; 0 where none was ever asked for.
        op: u32,
        /// The provider's id of the payment, where it made one: it stays open there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_ref: Option<Text>,
        /// The provider's code.
        code: Text,
        /// Whether the customer may try again with another means.
        retryable: bool,
    },
    /// The provider holds the money once the customer has done something, as to confirm the payment
    /// with their bank.
    #[serde(rename = "payment.action_required.v1")]
    ActionRequired {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment.
        provider_ref: Text,
        /// Where the customer does it.
        url: Link,
    },
    /// The customer named another means of payment; the next authorisation is asked for with it.
    #[serde(rename = "payment.method_replaced.v1")]
    MethodReplaced {
        /// For which order.
        order: OrderId,
        /// The provider's token.
        method: Text,
    },
    /// The provider holds the money no longer, since nobody took it in time.
    #[serde(rename = "payment.authorisation_expired.v1")]
    AuthorisationExpired {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// Somebody wants it tried once more.
    #[serde(rename = "payment.retry_requested.v1")]
    RetryRequested {
        /// For which order.
        order: OrderId,
    },
    /// What an authorisation left open at the provider is not wanted any more: it is to be closed.
    #[serde(rename = "payment.closing_requested.v1")]
    ClosingRequested {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// Nobody knows what became of a request.
    #[serde(rename = "payment.outcome_unknown.v1")]
    OutcomeUnknown {
        /// For which order.
        order: OrderId,
        /// Which authorisation it belongs to.
        op: u32,
        /// What was asked.
        operation: Operation,
    },
    /// The provider is to take the money.
    #[serde(rename = "payment.capture_requested.v2")]
    CaptureRequested {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// Which try at it, from 1; grows only after a definite failure.
        attempt: u32,
        /// How much.
        amount: Money,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// The provider took the money.
    #[serde(rename = "payment.captured.v1")]
    Captured {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// How much.
        amount: Money,
    },
    /// Money that was taken is gone again, without our giving it back.
    #[serde(rename = "payment.capture_reversed.v1")]
    CaptureReversed {
        /// For which order.
        order: OrderId,
        /// How much.
        amount: Money,
    },
    /// The provider did not take the money.
    #[serde(rename = "payment.capture_failed.v1")]
    CaptureFailed {
        /// For which order.
        order: OrderId,
        /// The provider's code.
        code: Text,
        /// Whether asking again may help.
        retryable: bool,
    },
    /// Nothing is wanted any more. With a `provider_ref` the provider is to let go; without
    /// one there is nothing to let go of yet, and the wish waits for the answer on its way.
    #[serde(rename = "payment.void_requested.v1")]
    VoidRequested {
        /// For which order.
        order: OrderId,
        /// Which authorisation.
        op: u32,
        /// The provider's id of the payment.
        provider_ref: Option<Text>,
    },
    /// Nothing is held, and nothing will be.
    #[serde(rename = "payment.voided.v1")]
    Voided {
        /// For which order.
        order: OrderId,
        /// Whether no money was ever held.
        never_authorised: bool,
    },
    /// The provider is to give money back.
    #[serde(rename = "payment.refund_requested.v1")]
    RefundRequested {
        /// For which order.
        order: OrderId,
        /// Which refund.
        refund: RefundId,
        /// How much.
        amount: Money,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// The provider gave money back.
    #[serde(rename = "payment.refunded.v1")]
    Refunded {
        /// For which order.
        order: OrderId,
        /// Which refund.
        refund: RefundId,
        /// How much.
        amount: Money,
    },
    /// The provider did not give the money back.
    #[serde(rename = "payment.refund_failed.v1")]
    RefundFailed {
        /// For which order.
        order: OrderId,
        /// Which refund.
        refund: RefundId,
        /// The provider's code.
        code: Text,
    },
    /// The provider sent word that does not agree with what we know: its record is to be read.
    #[serde(rename = "payment.provider_notified.v1")]
    ProviderNotified {
        /// For which order.
        order: OrderId,
        /// The provider's id of the notification.
        notification: Text,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// The provider sent word of a dispute: its record is to be read.
    #[serde(rename = "payment.dispute_notified.v1")]
    DisputeNotified {
        /// For which order.
        order: OrderId,
        /// The provider's id of the notification.
        notification: Text,
        /// The provider's id of the dispute.
        dispute: Text,
        /// The provider's id of the payment.
        provider_ref: Text,
    },
    /// The customer has asked their bank for the money back, and the bank has it until it decides.
    #[serde(rename = "payment.dispute_opened.v1")]
    DisputeOpened {
        /// For which order.
        order: OrderId,
        /// The provider's id of the dispute.
        dispute: Text,
        /// How much it is about.
        amount: Money,
        /// The provider's word for why.
        reason: Text,
        /// Until when the bank takes evidence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence_due: Option<Timestamp>,
    },
    /// The bank decided for us: the money is back.
    #[serde(rename = "payment.dispute_won.v1")]
    DisputeWon {
        /// For which order.
        order: OrderId,
        /// The provider's id of the dispute.
        dispute: Text,
        /// How much it was about.
        amount: Money,
    },
    /// The bank decided for the customer: the money is gone.
    #[serde(rename = "payment.dispute_lost.v1")]
    DisputeLost {
        /// For which order.
        order: OrderId,
        /// The provider's id of the dispute.
        dispute: Text,
        /// How much it was about.
        amount: Money,
    },
    /// Money came in that nobody wanted any more; it goes back.
    #[serde(rename = "payment.late_money_detected.v1")]
    LateMoneyDetected {
        /// For which order.
        order: OrderId,
        /// How much.
        amount: Money,
    },
}

impl Event {
    /// The order that the payment is for.
    #[must_use]
    pub const fn order(&self) -> OrderId {
        match self {
            Self::Created { order, .. }
            | Self::AuthorisationRequested { order, .. }
            | Self::Authorised { order, .. }
            | Self::Declined { order, .. }
            | Self::ActionRequired { order, .. }
            | Self::MethodReplaced { order, .. }
            | Self::AuthorisationExpired { order, .. }
            | Self::RetryRequested { order }
            | Self::ClosingRequested { order, .. }
            | Self::OutcomeUnknown { order, .. }
            | Self::CaptureRequested { order, .. }
            | Self::Captured { order, .. }
            | Self::CaptureReversed { order, .. }
            | Self::CaptureFailed { order, .. }
            | Self::VoidRequested { order, .. }
            | Self::Voided { order, .. }
            | Self::RefundRequested { order, .. }
            | Self::Refunded { order, .. }
            | Self::RefundFailed { order, .. }
            | Self::ProviderNotified { order, .. }
            | Self::DisputeNotified { order, .. }
            | Self::DisputeOpened { order, .. }
            | Self::DisputeWon { order, .. }
            | Self::DisputeLost { order, .. }
            | Self::LateMoneyDetected { order, .. } => *order,
        }
    }
}

impl crate::Event for Event {
    const CATEGORY: Category = Category::Payment;
    const UPCASTS: &'static [Upcast] = &[Upcast {
        // A capture was never tried twice.
        from: "payment.capture_requested.v1",
        to: "payment.capture_requested.v2",
        data: |mut old| {
            old["attempt"] = 1.into();
            old
        },
    }];
}

impl PaymentId {
    /// The payment's stream.
    #[must_use]
    pub const fn stream(self) -> StreamId {
        StreamId::new(Category::Payment, self.uuid())
    }
}
