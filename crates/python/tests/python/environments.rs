//! Environments for the requirements of models.

use crate::support::{Fixture, interpreter};
use std::fs;
use std::path::Path;
use std::process::Command;
use symphony_python::{Environments, PythonError};

/// Writes a package that pip can install without the network.
fn package(directory: &Path, number: u32) {
    let script = "
import sys, zipfile
directory, number = sys.argv[1:]
info = f'symphony_tiny-{number}.0.dist-info'
with zipfile.ZipFile(f'{directory}/symphony_tiny-{number}.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('symphony_tiny.py', f'NUMBER = {number}\\n')
    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: symphony-tiny\\nVersion: {number}.0\\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(f'{info}/RECORD', '')
";
    let python = Command::new(interpreter())
        .args(["-c", script])
        .arg(directory)
        .arg(number.to_string())
        .status();
    assert!(python.unwrap().success());
}

#[test]
fn a_models_requirements_are_its_own_and_installed_once() {
    let directory = tempfile::tempdir().unwrap();
    package(directory.path(), 7);
    let requirements = directory.path().join("requirements.txt");
    fs::write(&requirements, "./symphony_tiny-7.0-py3-none-any.whl\n").unwrap();
    let cache = directory.path().join("cache");
    let environments = Environments::new(interpreter(), &cache);
    let made: Vec<_> = std::thread::scope(|scope| {
        let make = || environments.prepare(&requirements).unwrap();
        let makers: Vec<_> = (0..2).map(|_| scope.spawn(make)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert_eq!(made[0], made[1]);
    let folders =
        fs::read_dir(&cache).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 1);
    // With the wheel gone, only what is there can be used.
    fs::remove_file(directory.path().join("symphony_tiny-7.0-py3-none-any.whl")).unwrap();
    assert_eq!(environments.prepare(&requirements).unwrap(), made[0]);
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("symphony_tiny.py"), "NUMBER = 0").unwrap();
    let variables = vec![("TINY".to_owned(), "1".to_owned())];
    let fixture = Fixture::of(made[0].clone(), |config| config.variables = variables);
    let model = fixture.loaded(
        "import os, symphony_tiny, numpy as np\nassert os.environ['TINY'] == '1' and 'PYTHONPATH' not in os.environ\ntry:\n    import onnx\n    raise RuntimeError('packages of another Python')\nexcept ImportError: pass\ndef load(config):\n    return lambda batch: batch['x'] * np.float32(symphony_tiny.NUMBER)\n",
    );
    assert_eq!(fixture.run(model, &[1.0, 2.0]).unwrap(), [7.0, 14.0]);
}

#[test]
fn requirements_that_cannot_be_had_say_why_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let requirements = directory.path().join("requirements.txt");
    let cache = directory.path().join("cache");
    let environments = Environments::new(interpreter(), &cache);
    let problem = || match environments.prepare(&requirements) {
        Err(PythonError::Environment { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(problem().contains("No such file"));
    fs::write(&requirements, "--no-index\nsymphony-there-is-no-such-package==1\n").unwrap();
    let told = problem();
    assert!(
        told.contains("pip failed") && told.contains("symphony-there-is-no-such-package"),
        "{told}"
    );
    let folders =
        fs::read_dir(&cache).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 0);
}
