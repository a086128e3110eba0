//! symphony
fn main() {}
