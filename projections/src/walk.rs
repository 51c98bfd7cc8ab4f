//! Lists in the order of a time, a page at a time: each is one walk of one index.
//!
//! Where one of several words is wanted, there is one walk for each, of at most a page, and the
//! walks are merged. So a page costs what it shows, however long the list is.

use schemas::Timestamp;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::row::Row;

/// The place of a row in its list: its time, and its id among those of the same time.
pub type Place = (Timestamp, Uuid);

/// A row that has a place.
pub trait Placed {
    /// Where it is.
    fn place(&self) -> Place;
}

/// In which order rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Oldest first.
    OldestFirst,
    /// Newest first.
    NewestFirst,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// In this order.
    pub sort: Sort,
    /// Beyond this place.
    pub after: Option<Place>,
    /// Of this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub before: Option<Timestamp>,
    /// At most so many rows.
    pub limit: i64,
}

/// A condition that the index answers.
#[derive(Debug, Clone)]
pub(crate) enum Only {
    /// The column holds this text.
    Text(&'static str, String),
    /// The column holds this id.
    Id(&'static str, Uuid),
    /// The column matches this text search.
    Search(&'static str, String),
    /// This is so; it stands in the `where` of a partial index.
    That(&'static str),
}

impl Only {
    /// One condition for each of `words`; none where there are none.
    pub(crate) fn any(column: &'static str, words: &[impl ToString]) -> Vec<Self> {
        words.iter().map(|word| Self::Text(column, word.to_string())).collect()
    }
}

/// A list: what is selected from where, and the columns of its order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    /// Stands before every selected column.
    pub(crate) prefix: &'static str,
    /// A table, or a join of tables of which at most one row belongs to each row of the first.
    pub(crate) from: &'static str,
    /// The time that it is sorted by.
    pub(crate) time: &'static str,
    /// The id that it is sorted by where the times are equal.
    pub(crate) id: &'static str,
}

impl List {
    /// The rows of `part` for which all of `always` and, unless it is empty, one of `either` hold.
    pub(crate) fn query<R: Row>(
        self,
        always: &[Only],
        either: &[Only],
        part: &Part,
    ) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("");
        match either {
            [] => self.walk::<R>(&mut query, always, None, part),
            [one] => self.walk::<R>(&mut query, always, Some(one), part),
            several => {
                query.push("select * from (");
                for (index, one) in several.iter().enumerate() {
                    query.push(if index == 0 { "(" } else { " union all (" });
                    self.walk::<R>(&mut query, always, Some(one), part);
                    query.push(")");
                }
                query.push(") as walks");
                self.end(&mut query, part);
            }
        }
        query
    }

    fn walk<R: Row>(
        self,
        query: &mut QueryBuilder<Postgres>,
        always: &[Only],
        either: Option<&Only>,
        part: &Part,
    ) {
        let Self { prefix, from, time, id } = self;
        let columns: Vec<_> = R::COLUMNS.iter().map(|name| format!("{prefix}{name}")).collect();
        query.push("select ").push(columns.join(", ")).push(" from ").push(from);
        query.push(" where true");
        for only in always.iter().chain(either) {
            query.push(" and ");
            match only {
                Only::Text(column, text) => {
                    query.push(column).push(" = ").push_bind(text.clone());
                }
                Only::Id(column, id) => {
                    query.push(column).push(" = ").push_bind(*id);
                }
                Only::Search(column, text) => {
                    query.push(column).push(" @@ ").push_bind(text.clone()).push("::tsquery");
                }
                Only::That(condition) => {
                    query.push(condition);
                }
            }
        }
        if let Some(from) = part.from {
            query.push(" and ").push(time).push(" >= ").push_bind(from);
        }
        if let Some(before) = part.before {
            query.push(" and ").push(time).push(" < ").push_bind(before);
        }
        if let Some((after, after_id)) = part.after {
            let beyond = match part.sort {
                Sort::OldestFirst => ">",
                Sort::NewestFirst => "<",
            };
            query.push(format!(" and ({time}, {id}) {beyond} ("));
            query.push_bind(after).push(", ").push_bind(after_id).push(")");
        }
        self.end(query, part);
    }

    fn end(self, query: &mut QueryBuilder<Postgres>, part: &Part) {
        let Self { time, id, .. } = self;
        let direction = match part.sort {
            Sort::OldestFirst => "asc",
            Sort::NewestFirst => "desc",
        };
        query.push(format!(" order by {time} {direction}, {id} {direction} limit "));
        query.push_bind(part.limit);
    }
}

/// Reads the rows that `query` selects in the order of [`Row::COLUMNS`].
pub(crate) async fn read<R: Row>(
    pool: &PgPool,
    mut query: QueryBuilder<Postgres>,
) -> Result<Vec<R>, sqlx::Error> {
    query.build().fetch_all(pool).await?.iter().map(R::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::table! {
        /// A row of a table that is nowhere.
        struct Sample {
            /// Key.
            id: Uuid,
            /// Time.
            at: Timestamp,
        }
    }

    const LIST: List = List { prefix: "", from: "samples", time: "at", id: "id" };

    fn part(sort: Sort) -> Part {
        Part { sort, after: None, from: None, before: None, limit: 3 }
    }

    #[test]
    fn a_list_of_everything_is_one_walk() {
        let query = LIST.query::<Sample>(&[], &[], &part(Sort::NewestFirst)).into_string();
        let expected =
            "select id, at from samples where true order by at desc, id desc limit $1".to_owned();
        assert_eq!(query, expected);
    }

    #[test]
    fn a_part_has_bounds_and_begins_after_a_place() {
        let at = chrono::DateTime::UNIX_EPOCH;
        let (from, before) = (Some(at), Some(at));
        let part = Part { after: Some((at, Uuid::nil())), from, before, ..part(Sort::OldestFirst) };
        let always = [Only::Id("owner", Uuid::nil()), Only::That("done")];
        let query = LIST.query::<Sample>(&always, &[], &part).into_string();
        let expected = "select id, at from samples where true and owner = $1 and done \
                        and at >= $2 and at < $3 and (at, id) > ($4, $5) \
                        order by at asc, id asc limit $6";
        assert_eq!(query, expected);
    }

    #[test]
    fn several_words_are_as_many_walks_merged() {
        let either = Only::any("state", &["a", "b"]);
        let query = LIST.query::<Sample>(&[], &either, &part(Sort::NewestFirst)).into_string();
        let expected = "select * from (\
                        (select id, at from samples where true and state = $1 \
                        order by at desc, id desc limit $2) union all \
                        (select id, at from samples where true and state = $3 \
                        order by at desc, id desc limit $4)) as walks \
                        order by at desc, id desc limit $5";
        assert_eq!(query, expected);
        let one = LIST.query::<Sample>(&[], &either[..1], &part(Sort::NewestFirst)).into_string();
        assert!(!one.contains("union"), "{one}");
    }
}
