//! Files of one target never import each other, neither directly nor in a circle, so that each file
//! can be read with only those below it.

use crate::source::{Arrow, Tree, arrows, circles};

/// Complains about each import that is part of a circle.
pub(super) fn check(trees: &[Tree]) -> Vec<String> {
    trees.iter().flat_map(check_tree).collect()
}

fn check_tree(tree: &Tree) -> Vec<String> {
    let arrows = arrows(tree);
    let circles = circles(arrows.iter().map(|arrow| (arrow.from, arrow.to)));
    let complaints = circles.iter().flat_map(|circle| {
        let inside = |arrow: &&Arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to);
        arrows.iter().filter(inside).map(|arrow| complaint(tree, arrow, circle.len()))
    });
    complaints.collect()
}

fn complaint(tree: &Tree, arrow: &Arrow, files: usize) -> String {
    let shown = |file: usize| tree.files[file].path.display();
    format!(
        "{}:{}: imports {} from {}, which leads back here ({files} files in a circle): \
         move what both need to a file below both",
        shown(arrow.from),
        arrow.line,
        arrow.items.join(", "),
        shown(arrow.to)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes a crate of these files and compares its complaints with the `expected` beginnings.
    fn check_files(files: &[(&str, &str)], expected: &[&str]) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree =
            Tree::read(root.path(), "symphony-x", &root.path().join("lib.rs"), false).unwrap();
        let found = check(&[tree]);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn imports_that_lead_back_are_found() {
        let lib = ("lib.rs", "mod a;\nmod b;\nuse a::A;");
        check_files(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "pub struct B;")], &[]);
        check_files(
            &[
                lib,
                ("a.rs", "use crate::b::{self, B};\npub struct A(B);"),
                ("b.rs", "\npub struct B;\nfn f() { super::a::A::new() }"),
            ],
            &["a.rs:1: imports B from b.rs", "b.rs:3: imports A from a.rs"],
        );
    }

    #[test]
    fn a_module_and_its_child_may_not_import_each_other() {
        let (lib, parent) = (("lib.rs", "mod a;"), "mod b;\nuse b::B;\npub struct A;");
        check_files(&[lib, ("a.rs", parent), ("a/b.rs", "pub struct B;")], &[]);
        check_files(
            &[lib, ("a.rs", parent), ("a/b.rs", "use super::A;\npub struct B(A);")],
            &["a.rs:2: imports B from a/b.rs", "a/b.rs:1: imports A from a.rs"],
        );
    }

    #[test]
    fn a_re_export_is_an_import_only_where_it_is_used() {
        let (lib, b) = (("lib.rs", "mod a;"), ("a/b.rs", "use super::A;\npub struct B(A);"));
        check_files(&[lib, ("a.rs", "mod b;\npub use b::B;\npub struct A;"), b], &[]);
        check_files(
            &[lib, ("a.rs", "mod b;\npub use b::B;\npub struct A;\nfn f(_: B) {}"), b],
            &["a.rs:2: imports B from a/b.rs", "a/b.rs:1: imports A from a.rs"],
        );
        let generated = "mod a;\npub mod g { include!(\"g.rs\"); const C: u8 = 0; }\nuse a::A;";
        check_files(&[("lib.rs", generated), ("a.rs", "use crate::g::G;\npub struct A;")], &[]);
        check_files(&[("lib.rs", generated), ("a.rs", "use crate::g::*;\npub struct A;")], &[]);
    }

    #[test]
    fn re_exports_are_followed_to_the_file_that_declares() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::*;\npub use b::B as C;"),
            ("a.rs", "use crate::C;\npub struct A;"),
        ];
        check_files(&[files[0], files[1], ("b.rs", "pub struct B;")], &[]);
        check_files(
            &[files[0], files[1], ("b.rs", "use super::A;\npub struct B;")],
            &["a.rs:1: imports B from b.rs", "b.rs:1: imports A from a.rs"],
        );
    }

    #[test]
    fn macros_count_and_tests_do_not() {
        let lib = ("lib.rs", "mod a;\nmod b;");
        let b = ("b.rs", "pub struct B;\nfn f() { println!(\"{}\", crate::a::f(1)) }");
        check_files(&[lib, ("a.rs", "#[cfg(test)]\nmod tests { use crate::b::B; }"), b], &[]);
        check_files(&[lib, ("a.rs", "#[cfg(test)]\nuse crate::b::B;"), b], &[]);
        check_files(
            &[lib, ("a.rs", "pub fn f() { crate::b::B }"), b],
            &["a.rs:1: imports B from b.rs", "b.rs:2: imports f from a.rs"],
        );
    }
}
