//! Test payment methods: the token says how the card behaves.

use serde_json::{Value, json};

/// How a card behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Pays,
    Declines(Decline),
    /// Asks the customer first, and then pays or declines.
    Asks(Option<Decline>),
}

/// Why a card was declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decline {
    code: &'static str,
    reason: &'static str,
    message: &'static str,
}

impl Decline {
    /// The error as the caller reads it.
    pub(super) fn json(self, charge: Option<&str>) -> Value {
        json!({
            "type": "card_error", "code": self.code, "decline_code": self.reason,
            "message": self.message, "charge": charge,
        })
    }
}

const fn decline(code: &'static str, reason: &'static str, message: &'static str) -> Behaviour {
    Behaviour::Declines(Decline { code, reason, message })
}

/// The error where the customer did not confirm the payment with their bank.
pub(super) fn unconfirmed() -> Value {
    json!({
        "type": "invalid_request_error", "code": "payment_intent_authentication_failure",
        "message": "The provided PaymentMethod has failed authentication. You can provide \
                    payment_method_data or a new PaymentMethod to attempt to fulfill this \
                    PaymentIntent again.",
    })
}

const DECLINED: &str = "Your card was declined.";

/// The error where money that was taken is gone again.
pub(super) fn reversed(charge: Option<&str>) -> Value {
    json!({
        "type": "card_error", "code": "charge_reversed", "charge": charge,
        "message": "The bank took the money back.",
    })
}

/// How a payment method behaves; `None` where there is no such method.
///
/// `pm_card_visa_chargeDeclined…` and `pm_card_chargeDeclined…` are the same cards.
pub(super) fn behaviour(method: &str) -> Option<Behaviour> {
    let card = method.strip_prefix("pm_card_")?;
    let ending = card.find("chargeDeclined").map(|at| &card[at + "chargeDeclined".len()..]);
    Some(match (card, ending) {
        ("visa" | "visa_debit" | "mastercard" | "mastercard_debit" | "amex" | "discover", None) => {
            Behaviour::Pays
        }
        ("threeDSecure2Required" | "threeDSecureRequired", None) => Behaviour::Asks(None),
        ("threeDSecureRequiredChargeDeclined", None) => Behaviour::Asks(Some(Decline {
            code: "card_declined",
            reason: "generic_decline",
            message: DECLINED,
        })),
        (_, Some("")) => decline("card_declined", "generic_decline", DECLINED),
        (_, Some("InsufficientFunds")) => {
            decline("card_declined", "insufficient_funds", "Your card has insufficient funds.")
        }
        (_, Some("LostCard")) => decline("card_declined", "lost_card", DECLINED),
        (_, Some("StolenCard")) => decline("card_declined", "stolen_card", DECLINED),
        (_, Some("Fraudulent")) => decline("card_declined", "fraudulent", DECLINED),
        (_, Some("VelocityLimitExceeded")) => {
            decline("card_declined", "card_velocity_exceeded", DECLINED)
        }
        (_, Some("ExpiredCard")) => {
            decline("expired_card", "expired_card", "Your card has expired.")
        }
        (_, Some("IncorrectCvc")) => {
            decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
        }
        (_, Some("ProcessingError")) => decline(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_how_its_card_behaves() {
        for good in ["pm_card_visa", "pm_card_mastercard"] {
            assert_eq!(behaviour(good), Some(Behaviour::Pays), "{good}");
        }
        for asking in ["pm_card_threeDSecure2Required", "pm_card_threeDSecureRequired"] {
            assert_eq!(behaviour(asking), Some(Behaviour::Asks(None)), "{asking}");
        }
        let asking = behaviour("pm_card_threeDSecureRequiredChargeDeclined");
        assert!(matches!(asking, Some(Behaviour::Asks(Some(_)))), "{asking:?}");
        for (bad, code) in [
            ("pm_card_chargeDeclined", "generic_decline"),
            ("pm_card_visa_chargeDeclined", "generic_decline"),
            ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
            ("pm_card_visa_chargeDeclinedLostCard", "lost_card"),
            ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ] {
            let Some(Behaviour::Declines(decline)) = behaviour(bad) else { panic!("{bad}") };
            assert_eq!(decline.reason, code, "{bad}");
        }
        for unknown in ["pm_card_", "pm_card_visa_nonsense", "tok_visa", "pm_card_chargeDeclinedX"]
        {
            assert_eq!(behaviour(unknown), None, "{unknown}");
        }
    }
}
