//! Lists in the order of a time: which page is asked for, and how it is answered.

use std::fmt::Display;
use std::str::FromStr;

use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, NaiveTime};
use projections::walk::{Part, Place, Placed, Sort};
use schemas::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;
use web::{Cursors, Page, Problem, ProjectionPosition};

use crate::api::Api;

/// The page that a caller asked for.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The query that its cursors belong to, in one spelling.
    binding: String,
    sort: Sort,
    limit: u32,
    key: Option<Key>,
}

/// Where a page ends, and which way the cursor goes from there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Key {
    /// Microseconds since 1970.
    at: i64,
    id: Uuid,
    back: bool,
}

impl Key {
    fn of(row: &impl Placed, back: bool) -> Self {
        let (at, id) = row.place();
        Self { at: at.timestamp_micros(), id, back }
    }

    fn place(self) -> Option<Place> {
        Some((DateTime::from_timestamp_micros(self.at)?, self.id))
    }
}

impl Listing {
    /// `binding` says what is listed and under which filters.
    pub(crate) fn asked(
        api: &Api,
        binding: &str,
        sort: impl Into<Sort>,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        let sort = sort.into();
        let limit = web::rows(limit)?;
        let binding = format!("{binding} {sort:?}");
        let key = cursor.map(|cursor| api.cursors.open::<Key>(&binding, cursor)).transpose()?;
        Ok(Self { binding, sort, limit, key })
    }

    /// What to read: one row more than the page has, which tells whether there is another page.
    pub(crate) fn part(&self, from: Option<Timestamp>, before: Option<Timestamp>) -> Part {
        let back = self.key.is_some_and(|key| key.back);
        let sort = match (self.sort, back) {
            (Sort::OldestFirst, false) | (Sort::NewestFirst, true) => Sort::OldestFirst,
            (Sort::NewestFirst, false) | (Sort::OldestFirst, true) => Sort::NewestFirst,
        };
        let limit = i64::from(self.limit) + 1;
        Part { sort, after: self.key.and_then(Key::place), from, before, limit }
    }

    /// The answer made of the rows that were read.
    pub(crate) fn answer<R: Placed, T: Serialize>(
        self,
        api: &Api,
        seen: ProjectionPosition,
        uri: &Uri,
        rows: Vec<R>,
        show: impl FnMut(R) -> T,
    ) -> Result<Response, Problem> {
        let cut = Cut::new(rows, self.limit as usize, self.key);
        let page = cut.page(&api.cursors, &self.binding, show);
        let page = page.map_err(|error| Problem::internal(&error))?;
        Ok((seen, page.linked(uri)).into_response())
    }
}

/// A walk in one direction through a list, after one place and on to the next.
#[derive(Debug)]
pub(crate) struct Walk<P> {
    /// The query that its cursors belong to.
    binding: String,
    limit: u32,
    after: Option<P>,
}

impl<P: Serialize + DeserializeOwned> Walk<P> {
    /// `binding` says what is listed and under which filters.
    pub(crate) fn asked(
        api: &Api,
        binding: String,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        let limit = web::rows(limit)?;
        let after = cursor.map(|cursor| api.cursors.open(&binding, cursor)).transpose()?;
        Ok(Self { binding, limit, after })
    }

    pub(crate) fn after(&self) -> Option<&P> {
        self.after.as_ref()
    }

    /// How many to read: one more than the page has, which tells whether there is another page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The page made of the rows that were read.
    pub(crate) fn page<R, T>(
        &self,
        api: &Api,
        mut rows: Vec<R>,
        place: impl Fn(&R) -> P,
        show: impl FnMut(R) -> T,
    ) -> Result<Page<T>, Problem> {
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more).map(place);
        let next = last.map(|place| api.cursors.seal(&self.binding, &place)).transpose();
        let next = next.map_err(|error| Problem::internal(&error))?;
        Ok(Page::new(rows.into_iter().map(show).collect(), next, None))
    }
}

/// A page of rows, and whether there are others on either side.
struct Cut<R> {
    rows: Vec<R>,
    more_before: bool,
    more_after: bool,
}

impl<R: Placed> Cut<R> {
    fn new(mut rows: Vec<R>, limit: usize, key: Option<Key>) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        match key {
            Some(Key { back: true, .. }) => {
                rows.reverse();
                Self { rows, more_before: more, more_after: true }
            }
            _ => Self { rows, more_before: key.is_some(), more_after: more },
        }
    }

    fn page<T>(
        self,
        cursors: &Cursors,
        binding: &str,
        show: impl FnMut(R) -> T,
    ) -> Result<Page<T>, serde_json::Error> {
        let seal = |row: Option<&R>, back| {
            row.map(|row| cursors.seal(binding, &Key::of(row, back))).transpose()
        };
        let next = seal(self.rows.last().filter(|_| self.more_after), false)?;
        let previous = seal(self.rows.first().filter(|_| self.more_before), true)?;
        Ok(Page::new(self.rows.into_iter().map(show).collect(), next, previous))
    }
}

/// Declares `Sorted`: the two values of `sort` that a list knows. A minus turns the order round,
/// and newest first is what is usual.
macro_rules! sorted {
    ($ascending:literal, $descending:literal) => {
        #[derive(Debug, Clone, Copy, Default, ::serde::Deserialize, ::schemars::JsonSchema)]
        enum Sorted {
            #[serde(rename = $ascending)]
            Ascending,
            #[default]
            #[serde(rename = $descending)]
            Descending,
        }

        impl From<Sorted> for ::projections::walk::Sort {
            fn from(sorted: Sorted) -> Self {
                match sorted {
                    Sorted::Ascending => Self::OldestFirst,
                    Sorted::Descending => Self::NewestFirst,
                }
            }
        }
    };
}
pub(crate) use sorted;

/// Reads one or several words, with commas between them.
pub(crate) fn words<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display> + PartialEq,
{
    let text = String::deserialize(deserializer)?;
    let mut words = Vec::new();
    for word in text.split(',').map(str::trim) {
        let word = word
            .parse()
            .map_err(|error| de::Error::custom(format!("`{}` is {error}", word.escape_debug())))?;
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(words)
}

/// A day in UTC, written as `2026-11-23`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(crate) struct Day(pub(crate) NaiveDate);

impl Day {
    /// When it begins.
    pub(crate) fn begins(self) -> Timestamp {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// When the next one begins.
    pub(crate) fn ends(self) -> Timestamp {
        self.begins() + chrono::TimeDelta::days(1)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain =
            text.len() == "2026-11-23".len() && text.starts_with(|c: char| c.is_ascii_digit());
        let day = text.parse().ok().filter(|_| plain);
        day.map(Self).ok_or_else(|| de::Error::custom("expected a day, as 2026-11-23"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(u8);

    impl Placed for Row {
        fn place(&self) -> Place {
            let at = DateTime::from_timestamp_micros(self.0.into()).unwrap();
            (at, Uuid::from_u128(self.0.into()))
        }
    }

    fn cut(numbers: &[u8], limit: usize, key: Option<Key>) -> Cut<Row> {
        Cut::new(numbers.iter().copied().map(Row).collect(), limit, key)
    }

    fn numbers(cut: &Cut<Row>) -> Vec<u8> {
        cut.rows.iter().map(|row| row.0).collect()
    }

    #[test]
    fn the_first_page_has_nothing_before_it() {
        let first = cut(&[3, 2, 1], 2, None);
        assert_eq!(numbers(&first), [3, 2]);
        assert!(first.more_after && !first.more_before);
        let all = cut(&[2, 1], 2, None);
        assert!(!all.more_after && !all.more_before);
    }

    #[test]
    fn a_page_before_another_is_turned_round() {
        let before = cut(&[3, 4, 5], 2, Some(Key::of(&Row(2), true)));
        assert_eq!(numbers(&before), [4, 3]);
        assert!(before.more_after && before.more_before);
    }

    #[test]
    fn a_page_after_another_has_something_before_it() {
        let after = cut(&[3], 2, Some(Key::of(&Row(4), false)));
        assert!(after.more_before && !after.more_after);
        let page = after.page(&Cursors::new(b"secret"), "orders", |row| row.0).unwrap();
        assert!(page.page.prev_cursor.is_some() && page.page.next_cursor.is_none());
    }

    #[test]
    fn a_key_keeps_its_place() {
        assert_eq!(Key::of(&Row(7), false).place(), Some(Row(7).place()));
    }

    #[test]
    fn a_way_back_reads_in_the_other_direction() {
        let listing = |sort, back| {
            let key = Some(Key::of(&Row(1), back));
            Listing { binding: String::new(), sort, limit: 2, key }.part(None, None).sort
        };
        assert_eq!(listing(Sort::NewestFirst, false), Sort::NewestFirst);
        assert_eq!(listing(Sort::NewestFirst, true), Sort::OldestFirst);
        assert_eq!(listing(Sort::OldestFirst, true), Sort::NewestFirst);
    }

    #[test]
    fn a_day_ends_when_the_next_begins() {
        let day = |text: &str| serde_json::from_value::<Day>(text.into());
        assert_eq!(day("2026-11-30").unwrap().ends(), day("2026-12-01").unwrap().begins());
        for bad in
            ["", "today", "2026-11-31", "26-11-23", "+2026-11-1", "2026-11-23T00", "-001-01-01"]
        {
            assert!(day(bad).is_err(), "{bad}");
        }
    }
}
