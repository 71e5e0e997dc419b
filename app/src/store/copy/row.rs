//! Tables, rows and checksums as both stores have them.

use super::super::error::refused;
use super::super::rows::Sql;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// A whole number of any width.
    Int,
    /// Yes or no; a number where the store has no such type.
    Bool,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Column {
    pub name: String,
    pub kind: Kind,
}

/// One table, and the tables that its rows point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub needs: BTreeSet<String>,
}

/// One value. Yes and no are 1 and 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// One row, in the order of the table's columns.
pub(in super::super) type Row = Vec<Value>;

impl Value {
    /// About how much memory it takes.
    pub(in super::super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null | Self::Int(_) => 0,
                Self::Text(text) => text.len(),
                Self::Bytes(bytes) => bytes.len(),
            }
    }
}

impl Table {
    /// The names of its columns, separated by commas.
    pub(in super::super) fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether its ids may come from the blocks. Those of live events are the tenant's own.
    pub(in super::super) fn draws_ids(&self) -> bool {
        self.name != "wk_event" && self.columns.iter().any(|column| column.name == "id")
    }

    /// This table with its columns in the order of the other one.
    pub(super) fn arranged_as(&self, other: &Self) -> Self {
        let column = |name: &str| self.columns.iter().find(|column| column.name == name).cloned();
        Self { columns: other.columns.iter().filter_map(|like| column(&like.name)).collect(), ..self.clone() }
    }

    /// Makes a row of a source what it is to be in a target: nobody holds a lease there, no vote is of a transaction that the target
    /// has had, and no text has a NUL, which PostgreSQL cannot hold.
    pub(super) fn amend(&self, row: &mut Row) {
        for (column, value) in self.columns.iter().zip(row) {
            match value {
                Value::Text(text) if self.name == "wk_lease" && column.name == "holder" => text.clear(),
                Value::Int(transaction) if self.name == "wk_sight" && column.name == "changed" => *transaction = 0,
                Value::Text(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
                Value::Null | Value::Int(_) | Value::Text(_) | Value::Bytes(_) => {}
            }
        }
    }
}

/// Each table after those that it needs.
pub(super) fn in_order(mut tables: Vec<Table>) -> Vec<Table> {
    tables.sort_by(|one, two| one.name.cmp(&two.name));
    let known: BTreeSet<String> = tables.iter().map(|table| table.name.clone()).collect();
    let mut done = BTreeSet::new();
    let mut sorted = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let free = |table: &Table| table.needs.iter().all(|need| *need == table.name || done.contains(need) || !known.contains(need));
        // Tables that need each other come as they are; the database then says so.
        let next = tables.iter().position(free).unwrap_or(0);
        let table = tables.remove(next);
        done.insert(table.name.clone());
        sorted.push(table);
    }
    sorted
}

/// Both stores have the same tables with the same columns; what differs is named.
pub(super) fn check_alike(source: &[Table], target: &[Table]) -> Sql<()> {
    let columns = |tables: &[Table]| -> BTreeSet<String> {
        tables.iter().flat_map(|table| table.columns.iter().map(move |column| format!("{}.{}", table.name, column.name))).collect()
    };
    let (source, target) = (columns(source), columns(target));
    let odd: Vec<&str> = source.symmetric_difference(&target).map(String::as_str).collect();
    if odd.is_empty() { Ok(()) } else { Err(refused(format!("only one of the two stores has {}", odd.join(", ")))) }
}

/// Over the rows of one table, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Checksum {
    pub rows: u64,
    sum: u128,
}

impl Checksum {
    /// Adds a row.
    pub(super) fn add(&mut self, table: &Table, row: &Row) {
        let mut hash = Sha256::new();
        for (column, value) in table.columns.iter().zip(row) {
            hash.update(column.name.as_bytes());
            let (kind, bytes): (u8, &[u8]) = match value {
                Value::Null => (0, &[]),
                Value::Int(number) => (1, &number.to_be_bytes()),
                Value::Text(text) => (2, text.as_bytes()),
                Value::Bytes(bytes) => (3, bytes),
            };
            hash.update([0, kind]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        let hash = hash.finalize();
        let (half, _) = hash.split_at(16);
        self.rows += 1;
        self.sum = half.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte)).wrapping_add(self.sum);
    }

    /// As hexadecimal digits.
    pub(super) fn digits(self) -> String {
        crate::hex(&self.sum.to_be_bytes())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with checksum {}", self.rows, self.digits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, needs: &[&str]) -> Table {
        let columns = ["id", "text"].map(|column| Column { name: column.into(), kind: Kind::Int });
        Table { name: name.into(), columns: columns.into(), needs: needs.iter().map(|need| (*need).to_owned()).collect() }
    }

    #[test]
    fn what_is_pointed_at_comes_first() {
        let sorted = in_order(vec![table("a", &["c", "a"]), table("b", &["a", "elsewhere"]), table("c", &[])]);
        assert_eq!(sorted.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
    }

    #[test]
    fn a_checksum_knows_every_value_and_no_order() {
        let table = table("a", &[]);
        let sum = |rows: &[Row]| rows.iter().fold(Checksum::default(), |mut sum, row| (sum.add(&table, row), sum).1);
        let one = vec![Value::Int(1), Value::Text("x".into())];
        let two = vec![Value::Int(2), Value::Null];
        assert_eq!(sum(&[one.clone(), two.clone()]), sum(&[two.clone(), one.clone()]));
        for other in [vec![Value::Int(2), Value::Text(String::new())], vec![Value::Int(2), Value::Bytes(Vec::new())], one.clone()] {
            assert_ne!(sum(&[one.clone(), two.clone()]), sum(&[one.clone(), other]));
        }
        assert_ne!(sum(&[one.clone(), one.clone()]), sum(&[]), "a row that is there twice does not vanish");
    }

    #[test]
    fn the_copy_has_no_holders_no_transactions_of_elsewhere_and_no_nul() {
        let columns = ["scope", "holder"].map(|name| Column { name: name.into(), kind: Kind::Text });
        let leases = Table { name: "wk_lease".into(), columns: columns.into(), needs: BTreeSet::new() };
        let mut row = vec![Value::Text("verdict/0".into()), Value::Text("node#1".into())];
        leases.amend(&mut row);
        assert_eq!(row, [Value::Text("verdict/0".into()), Value::Text(String::new())]);
        let mut row = vec![Value::Text("a\0b".into()), Value::Null];
        leases.amend(&mut row);
        assert_eq!(row[0], Value::Text("a\u{fffd}b".into()));
        let columns = ["health", "changed"].map(|name| Column { name: name.into(), kind: Kind::Int });
        let sights = Table { name: "wk_sight".into(), columns: columns.into(), needs: BTreeSet::new() };
        let mut row = vec![Value::Int(2), Value::Int(77)];
        sights.amend(&mut row);
        assert_eq!(row, [Value::Int(2), Value::Int(0)]);
    }

    #[test]
    fn a_column_that_only_one_store_has_is_named() {
        let (mut more, less) = (table("a", &[]), table("a", &[]));
        more.columns.push(Column { name: "new".into(), kind: Kind::Int });
        let error = check_alike(&[more], &[less]).unwrap_err().to_string();
        assert!(error.contains("a.new"), "{error}");
    }
}
