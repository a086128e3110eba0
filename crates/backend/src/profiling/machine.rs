//! The parts of a machine's identity on which latencies depend.

use std::fs;
use std::thread::available_parallelism;

/// The processor that profiles were measured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor's model name, or its architecture when it has no name.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
}

impl Machine {
    /// The machine that this process runs on.
    #[must_use]
    pub fn this() -> Machine {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| cpu_name(&info));
        Machine {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The first `model name` of a `/proc/cpuinfo`.
fn cpu_name(info: &str) -> Option<String> {
    let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
    let (_, name) = pairs.find(|(key, _)| key.trim() == "model name")?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_where_the_system_names_it() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2.1GHz\nmodel name\t: Other\n";
        assert_eq!(cpu_name(info).as_deref(), Some("Some CPU @ 2.1GHz"));
        assert_eq!(cpu_name("CPU part : 0xd0c\n"), None);
        assert!(Machine::this().cores >= 1);
    }
}
