//! Figures about the sources: the sizes of functions and files, circles of imports, and names that
//! several types share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Result;

use crate::source::{self, Arrow, Function, Tree};
use crate::workspace::Workspace;

/// Longer functions deserve a look.
const FUNCTION_LINES: usize = 40;
/// No function should be longer than this.
const FUNCTION_LINES_MAX: usize = 70;
/// Longer files deserve a look. Tests are not counted.
const FILE_LINES: usize = 400;

/// Prints the figures of the workspace.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let trees = source::read(workspace)?;
    print!("{}", functions(&trees));
    print!("{}", long_files(&trees));
    print!("{}", crate_circles(workspace));
    print!("{}", file_circles(&trees));
    print!("{}", folder_circles(&trees));
    print!("{}", shared_names(&trees));
    Ok(())
}

/// A table of the lengths of functions, by package, for code and for tests.
fn functions(trees: &[Tree]) -> String {
    let mut groups: BTreeMap<(bool, &str), Vec<Function>> = BTreeMap::new();
    for tree in trees {
        for file in &tree.files {
            let found = source::functions(file);
            groups.entry((file.is_test, &tree.package)).or_default().extend(found);
        }
    }
    let mut text = format!(
        "{:34} functions  median  over {FUNCTION_LINES}          over {FUNCTION_LINES_MAX}\n",
        "lines of functions"
    );
    for (is_test, kind) in [(false, "code"), (true, "tests")] {
        let of_kind = || groups.iter().filter(|((test, _), _)| *test == is_test);
        for ((_, package), functions) in of_kind() {
            let lines = functions.iter().map(|function| function.lines).collect();
            let _ = writeln!(text, "{}", row(&format!("{kind}: {package}"), lines));
        }
        let all = of_kind().flat_map(|(_, functions)| functions).map(|function| function.lines);
        let _ = writeln!(text, "{}", row(&format!("{kind}: all"), all.collect()));
    }
    text
}

fn row(name: &str, mut lines: Vec<usize>) -> String {
    lines.sort_unstable();
    let median = lines.get(lines.len() / 2).copied().unwrap_or_default();
    let over = |limit: usize| {
        let count = lines.iter().filter(|lines| **lines > limit).count();
        let percent = 100.0 * count as f64 / lines.len().max(1) as f64;
        format!("{count:4} ({percent:4.1} %)")
    };
    let (long, too_long) = (over(FUNCTION_LINES), over(FUNCTION_LINES_MAX));
    format!("{name:34} {:9} {median:7}  {long}  {too_long}", lines.len())
}

/// The files that are longer than [`FILE_LINES`] before their tests, longest first.
fn long_files(trees: &[Tree]) -> String {
    let files: BTreeSet<_> = trees
        .iter()
        .flat_map(|tree| &tree.files)
        .filter(|file| file.lines > FILE_LINES)
        .map(|file| (std::cmp::Reverse(file.lines), file.path.display().to_string()))
        .collect();
    let mut text = format!("\n{} files have over {FILE_LINES} lines before tests\n", files.len());
    for (lines, path) in files {
        let _ = writeln!(text, "  {} {path}", lines.0);
    }
    text
}

/// The circles between packages. Dependencies of tests and builds count, too.
fn crate_circles(workspace: &Workspace) -> String {
    let names: Vec<&str> = workspace.own_packages().map(|package| package.name.as_str()).collect();
    let number = |name: &str| names.iter().position(|own| *own == name);
    let mut arrows = Vec::new();
    for (from, package) in workspace.own_packages().enumerate() {
        let to = package.dependencies.iter().filter_map(|dependency| number(&dependency.name));
        arrows.extend(to.map(|to| (from, to)));
    }
    arrows.sort_unstable();
    arrows.dedup();
    let circles = source::circles(arrows.iter().copied());
    let mut text = format!("\n{} arrows between crates, {} circles\n", arrows.len(), circles.len());
    for circle in circles {
        let names: Vec<&str> = circle.into_iter().map(|package| names[package]).collect();
        let _ = writeln!(text, "  {}", names.join(", "));
    }
    text
}

/// The circles between the files of each target, with their imports.
fn file_circles(trees: &[Tree]) -> String {
    let (mut arrows_all, mut arrows_inside, mut circles_all) = (0, 0, 0);
    let mut list = String::new();
    for tree in trees {
        let arrows = source::arrows(tree);
        arrows_all += arrows.len();
        for circle in source::circles(arrows.iter().map(|arrow| (arrow.from, arrow.to))) {
            let within =
                |arrow: &&Arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to);
            circles_all += 1;
            let _ = writeln!(list, "  {}: {} files", tree.package, circle.len());
            for arrow in arrows.iter().filter(within) {
                arrows_inside += 1;
                let _ = writeln!(list, "    {}", shown(tree, arrow));
            }
        }
    }
    format!(
        "\n{arrows_all} arrows between the files of a crate, {arrows_inside} of them in \
         {circles_all} circles\n{list}"
    )
}

fn shown(tree: &Tree, arrow: &Arrow) -> String {
    let path = |file: usize| tree.files[file].path.display();
    format!("{} -> {}: {}", path(arrow.from), path(arrow.to), arrow.items.join(", "))
}

/// The circles between a crate's top modules, each with everything below it.
fn folder_circles(trees: &[Tree]) -> String {
    let mut list = String::new();
    let (mut arrows_all, mut circles_all) = (0, 0);
    for tree in trees {
        let tops: Vec<&str> = tree.files.iter().map(|file| file.top.as_str()).collect();
        let names: Vec<&str> = tops.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let number = |file: usize| names.iter().position(|name| *name == tops[file]);
        let arrows: BTreeSet<(usize, usize)> = source::arrows(tree)
            .iter()
            .filter_map(|arrow| Some((number(arrow.from)?, number(arrow.to)?)))
            .filter(|(from, to)| from != to)
            .collect();
        arrows_all += arrows.len();
        for circle in source::circles(arrows.into_iter()) {
            circles_all += 1;
            let names: Vec<&str> = circle.into_iter().map(|top| names[top]).collect();
            let _ = writeln!(list, "  {}: {}", tree.package, names.join(", "));
        }
    }
    format!(
        "\n{arrows_all} arrows between the top modules of a crate, {circles_all} circles\n{list}"
    )
}

/// The names of types and traits that are declared more than once, with the places.
fn shared_names(trees: &[Tree]) -> String {
    let mut places: BTreeMap<String, BTreeSet<(&str, String)>> = BTreeMap::new();
    for tree in trees {
        for file in tree.files.iter().filter(|file| !file.is_test) {
            for name in source::type_names(file) {
                let place = (tree.package.as_str(), file.path.display().to_string());
                places.entry(name).or_default().insert(place);
            }
        }
    }
    let packages = |places: &BTreeSet<(&str, String)>| {
        places.iter().map(|(package, _)| *package).collect::<BTreeSet<_>>().len()
    };
    places.retain(|_, places| places.len() > 1);
    let across = places.values().filter(|places| packages(places) > 1).count();
    let mut text = format!(
        "\n{} names of types are declared in more than one file, {across} of them in more than \
         one crate\n",
        places.len()
    );
    for (name, places) in &places {
        let mark = if packages(places) > 1 { "crates" } else { "files" };
        let paths: Vec<&str> = places.iter().map(|(_, path)| path.as_str()).collect();
        let _ = writeln!(text, "  {name} ({} {mark}): {}", places.len(), paths.join(", "));
    }
    text
}
