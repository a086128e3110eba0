//! What a Python process adds to each batch: how long batches take whose script does nothing.
//!
//! ```text
//! cargo run -p symphony-python --example overhead -- target/python/bin/python
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use symphony_python::{
    Batch, Input, Interpreter, Kind, ModelId, ModelSpec, PythonConfig, PythonWorker,
};
use symphony_wire::tensor::{DataType, Signature, TensorSpec};

const WARM: usize = 500;
const BATCHES: usize = 5000;
/// An image of 224 by 224 pixels in three colours, FP32: 602 112 bytes.
const IMAGE: usize = 3 * 224 * 224;

fn main() -> Result<(), Box<dyn Error>> {
    let python = std::env::args_os().nth(1).unwrap_or_else(|| "python3".into());
    let directory = std::env::temp_dir().join(format!("symphony-overhead-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let config = PythonConfig::new(Interpreter::installed(python), directory.join("own"));
    let worker = PythonWorker::start(config)?;
    println!("{:44} {:>9} {:>9}", "one row of", "p50", "p99");
    for (what, elements, returns, lies_there) in [
        ("2 numbers", 2, "batch['x'][:, :2]", true),
        ("602 KB, assembled where the process sees them", IMAGE, "batch['x'][:, :2]", true),
        ("602 KB, copied from elsewhere", IMAGE, "batch['x'][:, :2]", false),
        ("602 KB, and 602 KB of output", IMAGE, "batch['x']", true),
    ] {
        let outputs = if returns == "batch['x']" { elements } else { 2 };
        let model = load(&worker, &directory, elements, outputs, returns)?;
        let mut times = measured(&worker, model, elements, lies_there)?;
        times.sort_unstable();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{what:44} {:>6} us {:>6} us", p50.as_micros(), p99.as_micros());
    }
    drop(worker);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

fn load(
    worker: &PythonWorker,
    directory: &Path,
    elements: usize,
    outputs: usize,
    returns: &str,
) -> Result<ModelId, Box<dyn Error>> {
    let path = directory.join("model.py");
    fs::write(&path, format!("def load(config):\n    return lambda batch: {returns}\n"))?;
    let of =
        |name: &str, elements: usize| vec![TensorSpec::of_rows(name, DataType::Fp32, &[elements])];
    let spec = ModelSpec {
        name: "empty".to_owned(),
        version: "1".to_owned(),
        kind: Kind::Script,
        path,
        directory: directory.to_owned(),
        config: serde_json::Map::new(),
        signature: Signature::fixed(of("x", elements), of("y", outputs)),
        max_batch: 1,
        device: "cpu".to_owned(),
        compile: false,
        cuda_graphs: false,
    };
    Ok(worker.load(spec)?.id)
}

fn measured(
    worker: &PythonWorker,
    model: ModelId,
    elements: usize,
    lies_there: bool,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let bytes = elements * size_of::<f32>();
    let mut buffer = worker.buffer(bytes)?;
    buffer.fill(0);
    let elsewhere = vec![0; bytes];
    let contents = if lies_there { &buffer[..bytes] } else { &elsewhere[..] };
    let shape = [1, elements];
    let inputs = [Input { shape: &shape, contents }];
    let batch = Batch { inputs: &inputs, rows: &[1] };
    let mut times = Vec::with_capacity(BATCHES);
    for number in 0..WARM + BATCHES {
        let begin = Instant::now();
        worker.run(model, &batch)?;
        if number >= WARM {
            times.push(begin.elapsed());
        }
    }
    Ok(times)
}
