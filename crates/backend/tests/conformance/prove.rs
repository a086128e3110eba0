//! Derives the table from verdicts: what was correct in some case is proven, and what was wrong in
//! any case is refused by the fewest facets that distinguish it from every correct case.

use std::collections::{BTreeMap, BTreeSet};

use symphony_backend::operators::{Facet, FacetKind, ProvenRow, Table, UNKNOWN, may_hold};

/// The part of a case that concerns the table.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) operator: String,
    /// The first and last version of the operator set for which it stands.
    pub(crate) versions: (i64, i64),
    pub(crate) facets: BTreeSet<Facet>,
    pub(crate) is_right: bool,
    /// Neither correct nor refused by the engine itself.
    pub(crate) is_wrong: bool,
}

/// The rows that follow from the cases, and the cases that leave nothing to prove about their
/// operator.
pub(crate) fn rows(samples: &[Sample]) -> (Vec<ProvenRow>, Vec<String>) {
    let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        groups.entry((&sample.operator, sample.versions)).or_default().push(sample);
    }
    let (mut rows, mut hopeless): (Vec<ProvenRow>, _) = (Vec::new(), Vec::new());
    for ((operator, (first, last)), group) in groups {
        let right: Vec<_> = group.iter().copied().filter(|sample| sample.is_right).collect();
        let wrong: Vec<_> = group.iter().copied().filter(|sample| sample.is_wrong).collect();
        let mut row = ProvenRow {
            operator: operator.clone(),
            first,
            last,
            proven: proven(&right),
            refused: Vec::new(),
        };
        match refused(&row, &right, &wrong) {
            Ok(refused) => row.refused = refused,
            Err(names) => {
                hopeless.extend(names.iter().map(|name| format!("{operator} {first}: {name}")));
                continue;
            }
        }
        if right.is_empty() {
            continue;
        }
        match rows.last_mut() {
            Some(before) if continues(before, &row) => before.last = last,
            _ => rows.push(row),
        }
    }
    (rows, hopeless)
}

/// The claims of a table that the cases do not show: values that were correct in no case (according
/// to the table that follows from the cases), and uses that were wrong in a case.
pub(crate) fn unproven(table: &Table, shown: &Table, samples: &[Sample]) -> Vec<String> {
    let mut unproven = BTreeSet::new();
    for row in table.rows() {
        for opset in row.first..=row.last {
            let Some(shown) = shown.row(&row.operator, opset) else {
                unproven.insert(format!("{} at opset {opset}: never right", row.operator));
                continue;
            };
            let beyond = claims(row, shown).into_iter().filter(|facet| !shown.proves(facet));
            unproven.extend(beyond.map(|facet| format!("{} {facet}: never right", row.operator)));
        }
    }
    let admitted = |sample: &Sample| {
        let row = table.row(&sample.operator, sample.versions.0);
        row.is_some_and(|row| row.limit(&sample.facets).is_none())
    };
    let wrong = samples.iter().filter(|sample| sample.is_wrong && admitted(sample));
    unproven.extend(wrong.map(|sample| format!("{}: {} is wrong", sample.operator, sample.name)));
    unproven.into_iter().collect()
}

/// The claims of a row: the values that it names, and either origin of an input when it names none
/// but another row does.
fn claims(row: &ProvenRow, other: &ProvenRow) -> Vec<Facet> {
    let facet = |(kind, name): &(FacetKind, String), value: &str| Facet {
        kind: *kind,
        name: name.clone(),
        value: value.to_owned(),
    };
    let named = row.proven.iter();
    let named = named.flat_map(|(key, values)| values.iter().map(move |value| facet(key, value)));
    let origins = other.proven.keys().filter(|(kind, _)| *kind == FacetKind::Origin);
    let origins = origins.flat_map(|key| ["stored", "computed"].map(|value| facet(key, value)));
    named.chain(origins.filter(|origin| row.proves(origin))).collect()
}

fn continues(before: &ProvenRow, row: &ProvenRow) -> bool {
    before.operator == row.operator
        && before.last + 1 == row.first
        && before.proven == row.proven
        && before.refused == row.refused
}

fn proven(right: &[&Sample]) -> BTreeMap<(FacetKind, String), BTreeSet<String>> {
    let mut proven: BTreeMap<(FacetKind, String), BTreeSet<String>> = BTreeMap::new();
    for facet in right.iter().flat_map(|sample| &sample.facets) {
        if facet.kind != FacetKind::Circumstance && facet.value != UNKNOWN {
            let key = (facet.kind, facet.name.clone());
            proven.entry(key).or_default().insert(facet.value.clone());
        }
    }
    proven.retain(|(kind, _), values| match kind {
        // Both stored and computed, so there is nothing to say.
        FacetKind::Origin => values.len() == 1,
        // Always left out, so there is nothing to say.
        _ => values.iter().any(|value| value != "-"),
    });
    proven
}

/// The most facets that together identify a wrong case.
const TOGETHER_MAX: usize = 3;

/// The combinations that the wrong cases refuse in addition to what is not proven, or the cases
/// that nothing distinguishes from correct ones. A correct case may be refused with them if it
/// differs only in facets that are known only at run time.
fn refused(
    row: &ProvenRow,
    right: &[&Sample],
    wrong: &[&Sample],
) -> Result<Vec<BTreeSet<Facet>>, Vec<String>> {
    let mut open: Vec<_> = wrong.iter().filter(|s| row.limit(&s.facets).is_none()).collect();
    let mut ways: BTreeSet<BTreeSet<Facet>> = BTreeSet::new();
    for sample in &open {
        combinations(&sample.facets, &mut |all| {
            if !right.iter().any(|right| all.is_subset(&right.facets)) {
                ways.insert(all.clone());
            }
        });
    }
    let explains = |way: &BTreeSet<Facet>, sample: &Sample| {
        way.iter().all(|one| may_hold(one, &sample.facets))
    };
    let mut refused = Vec::new();
    while !open.is_empty() {
        let count = |way: &BTreeSet<Facet>| open.iter().filter(|s| explains(way, s)).count();
        // The combination that explains most cases, then the simplest, then the first.
        let best = ways.iter().rev().max_by_key(|way| (count(way), usize::MAX - way.len()));
        let Some(best) = best.filter(|way| count(way) > 0).cloned() else {
            return Err(open.iter().map(|sample| sample.name.clone()).collect());
        };
        open.retain(|sample| !explains(&best, sample));
        refused.push(best);
    }
    refused.sort();
    Ok(refused)
}

/// Every set of up to [`TOGETHER_MAX`] known facets.
fn combinations(facets: &BTreeSet<Facet>, visit: &mut impl FnMut(&BTreeSet<Facet>)) {
    let known: Vec<_> = facets
        .iter()
        .filter(|facet| facet.kind != FacetKind::Circumstance || facet.value != UNKNOWN)
        .collect();
    let mut chosen = BTreeSet::new();
    choose(&known, &mut chosen, visit);
}

fn choose(from: &[&Facet], chosen: &mut BTreeSet<Facet>, visit: &mut impl FnMut(&BTreeSet<Facet>)) {
    for (position, facet) in from.iter().enumerate() {
        chosen.insert((*facet).clone());
        visit(chosen);
        if chosen.len() < TOGETHER_MAX {
            choose(&from[position + 1..], chosen, visit);
        }
        chosen.remove(*facet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what a table claims beyond the cases of an operator, each given by its facets and
    /// whether it was correct.
    fn check(table: &str, cases: &[(&str, bool)], expected: &[&str]) {
        let samples: Vec<_> = cases
            .iter()
            .map(|&(words, is_right)| Sample {
                name: format!("case {words}"),
                operator: "Op".to_owned(),
                versions: (1, 3),
                facets: words.split(' ').map(|w| Facet::parse(w).expect(w)).collect(),
                is_right,
                is_wrong: !is_right,
            })
            .collect();
        let shown: String = rows(&samples).0.iter().map(|row| format!("{row}\n")).collect();
        let table = Table::parse(table).expect("the table parses");
        let shown = Table::parse(&shown).expect("the rows read back");
        assert_eq!(unproven(&table, &shown, &samples), expected, "{table:?}");
    }

    #[test]
    fn a_table_may_claim_less_than_is_shown_and_no_more() {
        let right = [("X:float X~stored", true), ("X:int64 X~computed", true)];
        check("Op 1-3 X:float|int64", &right, &[]);
        check("Op 1-2 X:float X~stored !X:int64&X~stored", &right, &[]);
        check("Op 1-3 X:float|int8", &right, &["Op X:int8: never right"]);
        check("Op 1-3 X:float B:float", &right, &["Op B:float: never right"]);
        check("Op 3-4 X:float", &right, &["Op at opset 4: never right"]);
        check(
            "Other 1-3 X:float",
            &right,
            &[
                "Other at opset 1: never right",
                "Other at opset 2: never right",
                "Other at opset 3: never right",
            ],
        );
        check("Op 1-3 X:float", &right[..1], &["Op X~computed: never right"]);
    }

    #[test]
    fn a_table_may_not_admit_what_is_wrong_though_each_facet_is_right() {
        let cases = [
            ("X:float axis=-", true),
            ("X:int64 axis=positive", true),
            ("X:float axis=positive", false),
        ];
        let wrong = ["Op: case X:float axis=positive is wrong"];
        check("Op 1-3 X:float|int64 axis=-|positive", &cases, &wrong);
        check("Op 1-3 X:float|int64 axis=-|positive !X:float&axis=positive", &cases, &[]);
        check("Op 1-3 X:float axis=-", &cases, &[]);
    }
}
