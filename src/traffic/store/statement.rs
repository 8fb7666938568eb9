//! A statement in the making: fixed text, places for values, and what stands in them. Pure.

use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type, any::AnyArguments, query::Query, query_with};

use super::Dialect;

/// Rows of one batch: far below the most that may be bound (32,766 in SQLite, 65,535 in PostgreSQL) for any table.
pub(super) const ROWS_MAX: usize = 500;

/// A statement in the making.
pub(in crate::traffic) struct Statement {
    dialect: Dialect,
    text: String,
    arguments: AnyArguments,
}

impl Statement {
    /// Begins with fixed text.
    pub fn new(dialect: Dialect, text: &'static str) -> Self {
        Self { dialect, text: text.to_owned(), arguments: AnyArguments::default() }
    }

    /// Appends fixed text; values go through [`Statement::value`].
    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends the place of a value. SQLite takes `$1` as well, but as a name that it looks for among all others: 500
    /// rows took 1.4 seconds so.
    pub fn value<'a>(&mut self, value: impl Encode<'a, Any> + Type<Any>) -> &mut Self {
        self.arguments.add(value).expect("numbers and texts can be encoded");
        match self.dialect {
            Dialect::Sqlite => self.text.push('?'),
            Dialect::Postgres => {
                self.text.push('$');
                self.text.push_str(&self.arguments.len().to_string());
            }
        }
        self
    }

    /// Appends the places of values in parentheses, `($1, $2)`; `(NULL)` where there are none, which nothing equals.
    pub fn list<'a, V: Encode<'a, Any> + Type<Any>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        self.text.push('(');
        let mut values = values.into_iter();
        match values.next() {
            None => self.text.push_str("NULL"),
            Some(first) => {
                self.value(first);
            }
        }
        for value in values {
            self.text.push_str(", ");
            self.value(value);
        }
        self.text.push(')');
        self
    }

    /// Returns it ready to run once: its text depends on how many values there are.
    pub fn query(self) -> Query<'static, Any, AnyArguments> {
        self.query_again().persistent(false)
    }

    /// Returns it ready to run, for the database to remember as it will come again.
    pub fn query_again(self) -> Query<'static, Any, AnyArguments> {
        query_with(AssertSqlSafe(self.text), self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_values() {
        let check = |dialect, expected: &str| {
            let mut statement = Statement::new(dialect, "SELECT a FROM b WHERE c = ");
            statement
                .value(1_i64)
                .push(" AND d IN ")
                .list(["x", "y"])
                .push(" AND e IN ")
                .list(Vec::<i64>::new());
            assert_eq!(statement.text, expected);
            assert_eq!(statement.arguments.len(), 3);
        };
        check(Dialect::Sqlite, "SELECT a FROM b WHERE c = ? AND d IN (?, ?) AND e IN (NULL)");
        check(Dialect::Postgres, "SELECT a FROM b WHERE c = $1 AND d IN ($2, $3) AND e IN (NULL)");
    }
}
