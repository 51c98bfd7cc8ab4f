//! What placing an order takes and refuses, without a store.

use schemas::Personal;

use super::*;

const BODY: &str = r#"{"customer":"usr_00000000000000000000000000000001",
    "lines":[{"sku":"mug","title":"A mug","quantity":2,"unit_price":{"amount":1250,"currency":"EUR"}},
             {"sku":"cup","title":"A cup","quantity":1,"unit_price":{"amount":481,"currency":"EUR"}}],
    "shipping_address":{"name":"Ada","line1":"Weg 1","city":"Berlin","country":"DE"},
    "payment_method":"pm_card_visa"}"#;

fn parse(change: &str, to: &str) -> Result<Place, Problem> {
    assert!(BODY.contains(change), "{change}");
    web::json::parse(BODY.replacen(change, to, 1).as_bytes())
}

#[track_caller]
fn check(change: &str, to: &str, pointer: &str) {
    let problem = parse(change, to).unwrap_err();
    assert_eq!(problem.status().as_u16(), 422, "{problem:?}");
    assert_eq!(problem.errors()[0].pointer.as_deref(), Some(pointer), "{problem:?}");
}

#[test]
fn a_wrong_part_of_an_order_is_pointed_at() {
    check("usr_", "ord_", "#/customer");
    check("\"customer\"", "\"client\"", "#/client");
    check("\"quantity\":2", "\"quantity\":481.0", "#/lines/0/quantity");
    check("\"quantity\":2", "\"quantity\":0", "#/lines/0/quantity");
    check("\"quantity\":2", "\"quantity\":1000000", "#/lines/0/quantity");
    check("\"quantity\":2", "\"quantity\":\"2\"", "#/lines/0/quantity");
    check("1250", "12.50", "#/lines/0/unit_price/amount");
    check("\"EUR\"", "\"XXQ\"", "#/lines/0/unit_price/currency");
    check("\"mug\"", "\"a mug\"", "#/lines/0/sku");
    check("A mug", r"A\u0000mug", "#/lines/0/title");
    check("\"DE\"", "\"DEU\"", "#/shipping_address");
    check("\"city\":\"Berlin\",", "", "#/shipping_address/city");
    check("pm_card_visa", "", "#/payment_method");
    check("\"payment_method\"", "\"currency\":\"EUR\",\"payment_method\"", "#/currency");
}

#[test]
fn spelling_does_not_make_another_request() {
    let hash = |body: &str| {
        let place: Place = web::json::parse(body.as_bytes()).unwrap();
        crate::post::request_hash("/v1/orders", &place).unwrap()
    };
    let spaced = BODY.replace(':', " : ");
    let reordered = BODY.replacen('{', r#"{"payment_method":"pm_card_visa","#, 1);
    let reordered = reordered.replacen(",\n    \"payment_method\":\"pm_card_visa\"}", "}", 1);
    assert_eq!(hash(BODY), hash(&spaced));
    assert_eq!(hash(BODY), hash(&reordered));
    assert_ne!(hash(BODY), hash(&BODY.replace("\"quantity\":2", "\"quantity\":3")));
}

#[test]
fn the_total_is_the_sum_of_the_lines() {
    let place = parse("mug", "mug").unwrap();
    assert_eq!(total(&place.lines).map(|total| total.amount), Some(2981));
    let mixed = parse("\"EUR\"", "\"USD\"").unwrap();
    assert_eq!(total(&mixed.lines), None);
    assert_eq!(total(&[]), None);
}

#[test]
fn a_refusal_about_the_lines_names_the_line() {
    let pointed = |change: &str, to: &str, code: &str| {
        let Place { customer, lines, payment_method, .. } = parse(change, to).unwrap();
        let shipping_address = Personal::sealed(customer, b"sealed");
        let placed_at = "2026-11-23T05:00:00Z".parse().unwrap();
        let command =
            Command::Place { customer, lines, shipping_address, payment_method, placed_at };
        pointer(code, &command)
    };
    let amount = Some("#/lines/1/unit_price/amount".to_owned());
    assert_eq!(pointed("481", "-481", "negative_price"), amount);
    let currency = Some("#/lines/1/unit_price/currency".to_owned());
    assert_eq!(
        pointed("481,\"currency\":\"EUR\"", "481,\"currency\":\"USD\"", "currency_mismatch"),
        currency
    );
    assert_eq!(pointed("mug", "mug", "money_overflow"), Some("#/lines".to_owned()));
    assert_eq!(pointed("mug", "mug", "already_placed"), None);
}

#[test]
fn only_trusted_callers_say_when_and_never_in_the_future() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let now = time("2026-11-23T05:00:00Z");
    let caller = |trusted: bool| {
        let scopes: &[&str] = if trusted { &["orders:import"] } else { &["orders:write"] };
        Caller::new("somebody", None, scopes)
    };
    let (past, future) = (time("1997-01-01T00:00:00Z"), time("2026-11-23T05:00:00.001Z"));
    assert_eq!(placed_at(None, &caller(false), now).unwrap(), now);
    assert_eq!(placed_at(Some(past), &caller(true), now).unwrap(), past);
    let status = |given, trusted| {
        placed_at(Some(given), &caller(trusted), now).unwrap_err().status().as_u16()
    };
    assert_eq!(status(past, false), 403);
    assert_eq!(status(future, true), 422);
}

#[test]
fn customers_name_prices_where_they_are_trusted_to() {
    let status = |customer, scopes: &[&str]| {
        let priced = priced(&Caller::new("somebody", customer, scopes));
        priced.map_err(|problem| problem.status().as_u16())
    };
    assert_eq!(status(None, &["orders:write"]), Ok(()));
    assert_eq!(status(Some("usr_7"), &["orders:*", "staff"]), Err(403));
    assert_eq!(status(Some("usr_7"), &["orders:write", "prices:write"]), Ok(()));
}
