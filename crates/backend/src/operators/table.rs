//! The table of what an engine is proven to compute correctly. One row covers a range of versions
//! of an operator.
//!
//! ```text
//! Clip 11-28 input:float min:-|float max:-|float !min:-&rank#0
//! ```
//!
//! A row holds the operator, its operator sets, then the proven values of each input, output and
//! attribute (`-` means left out), then after `!` the combinations that failed nevertheless. An
//! input or attribute that is not named must be left out; an output may always be. An input whose origin is not
//! named may be stored in the model or computed. Nothing here knows how a row was proven.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::facets::{ABSENT, Facet, FacetKind, UNKNOWN};

/// What an engine is proven to compute for some versions of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenRow {
    /// The operator, after its domain unless that is the standard one.
    pub operator: String,
    /// The first version of the operator set.
    pub first: i64,
    /// The last version of the operator set.
    pub last: i64,
    /// The proven values of each input, output and attribute.
    pub proven: BTreeMap<(FacetKind, String), BTreeSet<String>>,
    /// The combinations of facets that failed.
    pub refused: Vec<BTreeSet<Facet>>,
}

impl ProvenRow {
    /// The limit that a node exceeds, or `None` when the row proves the node.
    #[must_use]
    pub fn limit(&self, facets: &BTreeSet<Facet>) -> Option<Vec<Facet>> {
        if let Some(facet) = facets.iter().find(|facet| !self.proves(facet)) {
            return Some(vec![facet.clone()]);
        }
        let refused =
            self.refused.iter().find(|all| all.iter().all(|one| may_hold(one, facets)))?;
        Some(refused.iter().cloned().collect())
    }

    /// Whether a facet by itself is proven.
    #[must_use]
    pub fn proves(&self, facet: &Facet) -> bool {
        if facet.kind == FacetKind::Output && facet.value == ABSENT {
            // What is right on all outputs is right on fewer.
            return true;
        }
        match (facet.kind, self.proven.get(&(facet.kind, facet.name.clone()))) {
            (_, Some(values)) => values.contains(&facet.value),
            (FacetKind::Circumstance | FacetKind::Origin, None) => true,
            (FacetKind::Type | FacetKind::Output | FacetKind::Attribute, None) => {
                facet.value == ABSENT
            }
        }
    }

    fn parse(line: &str) -> Option<ProvenRow> {
        let mut words = line.split_whitespace();
        let operator = words.next()?.to_owned();
        let (first, last) = words.next()?.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        let (mut proven, mut refused) = (BTreeMap::new(), Vec::new());
        for word in words {
            if let Some(all) = word.strip_prefix('!') {
                refused.push(all.split('&').map(Facet::parse).collect::<Option<_>>()?);
                continue;
            }
            let Facet { kind, name, value } = Facet::parse(word)?;
            proven.insert((kind, name), value.split('|').map(str::to_owned).collect());
        }
        Some(ProvenRow { operator, first, last, proven, refused })
    }
}

/// Whether a node has a refused facet, or might have it when it runs.
#[must_use]
pub fn may_hold(refused: &Facet, facets: &BTreeSet<Facet>) -> bool {
    let unknown = || Facet { value: UNKNOWN.to_owned(), ..refused.clone() };
    facets.contains(refused)
        || (refused.kind == FacetKind::Circumstance && facets.contains(&unknown()))
}

impl fmt::Display for ProvenRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{}", self.operator, self.first, self.last)?;
        for ((kind, name), values) in &self.proven {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            write!(f, " {name}{}{}", kind.mark(), values.join("|"))?;
        }
        for refused in &self.refused {
            let all: Vec<_> = refused.iter().map(Facet::to_string).collect();
            write!(f, " !{}", all.join("&"))?;
        }
        Ok(())
    }
}

/// Every row of one engine.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<String, Vec<ProvenRow>>,
}

impl Table {
    /// Reads a table with one row per line. Lines that begin with `#` are comments.
    ///
    /// # Errors
    /// The first line that is not a row.
    pub fn parse(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let row = ProvenRow::parse(line).ok_or_else(|| line.to_owned())?;
            table.rows.entry(row.operator.clone()).or_default().push(row);
        }
        Ok(table)
    }

    /// All rows, in the order of operators.
    pub fn rows(&self) -> impl Iterator<Item = &ProvenRow> {
        self.rows.values().flatten()
    }

    /// The row for a version of an operator.
    #[must_use]
    pub fn row(&self, operator: &str, opset: i64) -> Option<&ProvenRow> {
        let rows = self.rows.get(operator)?;
        rows.iter().find(|row| (row.first..=row.last).contains(&opset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "Op 11-13 X:float|int64 B:-|float B~stored axis=-|negative !X:int64&rank#4";

    fn check(words: &str, expected: Option<&str>) {
        let row = ProvenRow::parse(ROW).expect("the row parses");
        let facets = words.split(' ').map(|word| Facet::parse(word).expect(word)).collect();
        let limit = row
            .limit(&facets)
            .map(|limit| limit.iter().map(Facet::to_string).collect::<Vec<_>>().join("&"));
        assert_eq!(limit.as_deref(), expected, "{words}");
    }

    #[test]
    fn a_row_proves_what_it_names_and_no_more() {
        check("X:float B:- axis=-", None);
        check("X:float X~computed B:float B~stored axis=negative rank#4", None);
        check("X:double B:- axis=-", Some("X:double"));
        check("X:unknown B:- axis=-", Some("X:unknown"));
        check("X:float B:float B~computed axis=-", Some("B~computed"));
        check("X:float B:- axis=positive", Some("axis=positive"));
        check("X:float B:- axis=- mode=linear", Some("mode=linear"));
        check("X:float B:- axis=- mode=-", None);
        check("X:float B:- axis=- mask>used", Some("mask>used"));
        check("X:float B:- axis=- mask>-", None);
        check("X:int64 B:- axis=- rank#3", None);
        check("X:int64 B:- axis=- rank#4", Some("X:int64&rank#4"));
        check("X:int64 B:- axis=- rank#unknown", Some("X:int64&rank#4"));
    }

    #[test]
    fn a_table_finds_rows_by_opset_and_says_what_is_no_row() {
        let table = Table::parse(&format!("# for the reader\n{ROW}\n")).expect("it parses");
        assert!(table.row("Op", 13).is_some() && table.row("Op", 14).is_none());
        assert!(table.row("Other", 13).is_none());
        assert_eq!(
            table.row("Op", 11).map(ProvenRow::to_string).as_deref(),
            Some(sorted().as_str())
        );
        assert_eq!(Table::parse("Op eleven").err().as_deref(), Some("Op eleven"));
    }

    /// The row in the order in which it is written: by kind, then by name.
    fn sorted() -> String {
        "Op 11-13 B:-|float X:float|int64 B~stored axis=-|negative !X:int64&rank#4".to_owned()
    }
}
