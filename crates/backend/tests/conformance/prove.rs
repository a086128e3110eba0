//! From verdicts to the table: what was right in some case is proven, what was wrong in any case
//! is refused by the fewest facets that tell it from every case that was right.

use std::collections::{BTreeMap, BTreeSet};

use symphony_backend::operators::{Facet, Kind, Row, UNKNOWN, may_hold};

/// One case as far as the table goes.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) operator: String,
    /// First and last version of the operator set it stands for.
    pub(crate) versions: (i64, i64),
    pub(crate) facets: BTreeSet<Facet>,
    pub(crate) is_right: bool,
    /// Neither right nor refused by the engine itself.
    pub(crate) is_wrong: bool,
}

/// The rows that follow, and the cases that leave nothing to prove of their operator.
pub(crate) fn rows(samples: &[Sample]) -> (Vec<Row>, Vec<String>) {
    let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        groups.entry((&sample.operator, sample.versions)).or_default().push(sample);
    }
    let (mut rows, mut hopeless): (Vec<Row>, _) = (Vec::new(), Vec::new());
    for ((operator, (first, last)), group) in groups {
        let right: Vec<_> = group.iter().copied().filter(|sample| sample.is_right).collect();
        let wrong: Vec<_> = group.iter().copied().filter(|sample| sample.is_wrong).collect();
        let mut row = Row {
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

fn continues(before: &Row, row: &Row) -> bool {
    before.operator == row.operator
        && before.last + 1 == row.first
        && before.proven == row.proven
        && before.refused == row.refused
}

fn proven(right: &[&Sample]) -> BTreeMap<(Kind, String), BTreeSet<String>> {
    let mut proven: BTreeMap<(Kind, String), BTreeSet<String>> = BTreeMap::new();
    for facet in right.iter().flat_map(|sample| &sample.facets) {
        if facet.kind != Kind::Circumstance && facet.value != UNKNOWN {
            let key = (facet.kind, facet.name.clone());
            proven.entry(key).or_default().insert(facet.value.clone());
        }
    }
    proven.retain(|(kind, _), values| match kind {
        // Stored and computed: nothing to say.
        Kind::Origin => values.len() == 1,
        // Only ever left out: nothing to say.
        _ => values.iter().any(|value| value != "-"),
    });
    proven
}

/// Most facets that together tell what is wrong.
const TOGETHER_MAX: usize = 3;

/// What the wrong cases refuse beyond what is not proven, or those that nothing tells from right
/// ones. A right case may be refused with them where it differs only in what is known at a run.
fn refused(
    row: &Row,
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
        // The way that explains most, then the simplest, then the first.
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
        .filter(|facet| facet.kind != Kind::Circumstance || facet.value != UNKNOWN)
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
