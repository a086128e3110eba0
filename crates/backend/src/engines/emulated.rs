//! An engine that computes nothing: it takes as long as a given profile says, as widely spread, and
//! copies inputs to outputs. It serves tests of everything around a model, and pools that are larger
//! than the machine.

use crate::batch::{Batch, Elements, Representation, contents};
use crate::engine::{EngineError, EngineModel, Executable};
use bytes::Bytes;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use symphony_core::{Profile, SizedProfile, Span};
use symphony_wire::clock;
use symphony_wire::tensor::{OutputTensor, Signature, TensorSpec, bytes_contents};

/// The engine's name in configurations.
pub const NAME: &str = "emulated";

/// The platform name that clients see.
pub const PLATFORM: &str = "emulated";

/// The default length of the last part of an execution, in which the engine watches the clock:
/// about the time by which a sleeping thread wakes too late. It is short, so that eight such
/// engines leave two cores mostly free.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(60);

/// What to emulate.
#[derive(Clone, Debug)]
pub struct Emulation {
    /// The execution time by rows and size, and its spread.
    pub costs: Arc<SizedProfile>,
    /// The last part of an execution, in which the engine watches the clock instead of sleeping.
    /// Executions that are no longer than this do not sleep at all.
    pub spin: Duration,
}

impl Emulation {
    /// Emulates a profile, whatever the size of requests, with [`SPIN_DEFAULT`].
    #[must_use]
    pub fn new(profile: Arc<Profile>) -> Emulation {
        Emulation::sized(Arc::new(SizedProfile::fixed(1, Arc::unwrap_or_clone(profile))))
    }

    /// Emulates a profile over sizes, with [`SPIN_DEFAULT`].
    #[must_use]
    pub fn sized(costs: Arc<SizedProfile>) -> Emulation {
        Emulation { costs, spin: SPIN_DEFAULT }
    }

    /// An emulated model with these inputs and outputs.
    #[must_use]
    pub fn of(self, signature: Signature) -> EmulatedEngineModel {
        EmulatedEngineModel { emulation: self, signature }
    }

    /// How long a batch takes: its mean, times a log-normal factor where times are spread.
    fn exec(&self, size: u64, rows: u32, random: &mut Pcg64Mcg) -> Span {
        let mean = self.costs.exec(size, rows);
        let spread = self.costs.spread(size, rows);
        if spread == 0.0 {
            return mean;
        }
        let variance = (spread * spread).ln_1p();
        let factor = (variance.sqrt() * normal(random) - variance / 2.0).exp();
        Span::from_millis_f64(mean.as_millis_f64() * factor)
    }

    /// Returns when `exec` has passed since `start`.
    fn wait(&self, start: Instant, exec: Duration) {
        if let Some(asleep) = exec.checked_sub(self.spin).filter(|asleep| !asleep.is_zero()) {
            thread::sleep(asleep.saturating_sub(start.elapsed()));
        }
        while start.elapsed() < exec {
            // Other threads may need the core.
            thread::yield_now();
        }
    }
}

/// An emulated model, before it is on an accelerator.
#[derive(Clone, Debug)]
pub struct EmulatedEngineModel {
    emulation: Emulation,
    signature: Signature,
}

impl EngineModel for EmulatedEngineModel {
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError> {
        Ok(Box::new(EmulatedExecutable {
            emulation: self.emulation.clone(),
            signature: self.signature.clone(),
            random: Pcg64Mcg::seed_from_u64(device as u64),
        }))
    }
}

struct EmulatedExecutable {
    emulation: Emulation,
    signature: Signature,
    random: Pcg64Mcg,
}

/// A number of the standard normal distribution (Box and Muller 1958).
fn normal(random: &mut Pcg64Mcg) -> f64 {
    // Never zero, of which there is no logarithm.
    let mut unit = || (f64::from(random.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
    let (radius, angle) = (unit(), unit());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

impl Executable for EmulatedExecutable {
    fn representation(&self) -> Representation {
        Representation::Raw
    }

    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let start = Instant::now();
        let signature = &self.signature;
        let outputs = signature.outputs.iter().enumerate();
        let outputs = outputs.map(|(i, spec)| match signature.inputs.get(i) {
            Some(input) if alike(input, spec) => Ok(echo(batch, i)),
            _ => zeros(signature, spec, batch),
        });
        let outputs = outputs.collect::<Result<_, _>>()?;
        let size = signature.size(batch.sizes());
        let exec = self.emulation.exec(size, batch.rows(), &mut self.random);
        self.emulation.wait(start, clock::duration(exec));
        Ok(outputs)
    }
}

fn alike(input: &TensorSpec, output: &TensorSpec) -> bool {
    input.datatype == output.datatype && input.shape == output.shape
}

fn echo(batch: &Batch<'_>, index: usize) -> OutputTensor {
    let input = batch.inputs().nth(index).expect("each output copies an input that exists");
    OutputTensor { shape: input.shape, data: bytes_of(input.elements) }
}

fn bytes_of(elements: Elements<'_>) -> Bytes {
    match elements {
        Elements::Bool(values) => contents(values.to_vec()),
        Elements::Uint8(values) => contents(values.to_vec()),
        Elements::Uint16(values) => contents(values.to_vec()),
        Elements::Uint32(values) => contents(values.to_vec()),
        Elements::Uint64(values) => contents(values.to_vec()),
        Elements::Int8(values) => contents(values.to_vec()),
        Elements::Int16(values) => contents(values.to_vec()),
        Elements::Int32(values) => contents(values.to_vec()),
        Elements::Int64(values) => contents(values.to_vec()),
        Elements::Fp16(values) => contents(values.to_vec()),
        Elements::Bf16(values) => contents(values.to_vec()),
        Elements::Fp32(values) => contents(values.to_vec()),
        Elements::Fp64(values) => contents(values.to_vec()),
        Elements::Bytes(values) => Bytes::copy_from_slice(values),
        Elements::Text(values) => bytes_contents(values.iter().map(String::as_bytes)).into(),
        Elements::Raw(values) => bytes_contents(values.iter().map(Vec::as_slice)).into(),
    }
}

/// Zeros, or empty strings.
fn zeros(
    signature: &Signature,
    spec: &TensorSpec,
    batch: &Batch<'_>,
) -> Result<OutputTensor, EngineError> {
    let shape = signature.shape_of(spec, batch.rows(), batch.sizes());
    // An empty string is its length alone: four zero bytes.
    let width = spec.datatype.size().unwrap_or(4);
    let length = shape
        .as_ref()
        .and_then(|shape| shape.iter().try_fold(width, |product, dim| product.checked_mul(*dim)));
    let (Some(shape), Some(length)) = (shape, length) else {
        let problem = "its shape is not fixed: give it in model.toml".to_owned();
        return Err(EngineError::Output { engine: NAME, name: spec.name.clone(), problem });
    };
    Ok(OutputTensor { shape, data: vec![0; length].into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resident::Resident;
    use symphony_wire::tensor::{DataType, Dim, Inputs};

    fn resident(signature: Signature, exec: Span) -> Resident {
        let profile = Profile::linear(Span::ZERO, exec, 4).unwrap();
        let executable = Emulation::new(Arc::new(profile)).of(signature.clone()).place(0).unwrap();
        Resident::new(Arc::new(signature), 4, executable).unwrap()
    }

    #[test]
    fn outputs_echo_inputs_that_are_alike_and_are_zero_otherwise() {
        for datatype in DataType::ALL {
            let spec = |name: &str, datatype| TensorSpec::of_rows(name, datatype, &[2]);
            let signature = Signature::fixed(
                vec![spec("a", datatype), spec("b", DataType::Uint8)],
                vec![spec("same", datatype), spec("other", datatype), spec("more", datatype)],
            );
            // For BYTES: one element that is not text and one that is empty.
            let contents: Bytes = match datatype.size() {
                Some(size) => (0..=1).cycle().take(2 * size).collect::<Vec<u8>>().into(),
                None => bytes_contents([b"\xff\0".as_slice(), b""]).into(),
            };
            let request = Inputs::fixed(1, vec![contents.clone(), Bytes::from_static(&[8, 9])]);
            let mut outputs = resident(signature, Span(1)).run(&[request]).unwrap().remove(0);
            assert_eq!(outputs[0], OutputTensor { shape: vec![1, 2], data: contents });
            let zeros = Bytes::from(vec![0; 2 * datatype.size().unwrap_or(4)]);
            let other = outputs.remove(1);
            let expected =
                if datatype == DataType::Uint8 { vec![8, 9].into() } else { zeros.clone() };
            assert_eq!(other.data, expected);
            assert_eq!(outputs[1], OutputTensor { shape: vec![1, 2], data: zeros });
        }
    }

    #[test]
    fn a_batch_takes_at_least_the_time_of_its_profile() {
        let spec = |name: &str| TensorSpec::of_rows(name, DataType::Uint8, &[]);
        let signature = Signature::fixed(vec![spec("a")], vec![spec("b")]);
        for exec in [Span::from_micros(30), Span::from_millis(3)] {
            let mut resident = resident(signature.clone(), exec);
            let start = Instant::now();
            resident.run(&[Inputs::fixed(1, vec![Bytes::from_static(&[1])])]).unwrap();
            assert!(start.elapsed() >= clock::duration(exec));
        }
    }

    #[test]
    fn times_are_spread_as_the_profile_says() {
        let (mean, spread) = (Span::from_millis(10), 0.44);
        let profile = Profile::linear(Span::ZERO, mean, 4).unwrap().with_spread(&[(1, spread)]);
        let emulation = Emulation::new(Arc::new(profile));
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut draw = || emulation.exec(1, 4, &mut random).as_millis_f64();
        let times: Vec<f64> = std::iter::repeat_with(&mut draw).take(50_000).collect();
        let average = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let found = average(times.clone());
        let variance = average(times.iter().map(|time| (time - found).powi(2)).collect());
        assert!((found - 10.0).abs() < 0.1, "{found}");
        assert!((variance.sqrt() / found - spread).abs() < 0.02, "{}", variance.sqrt() / found);
    }

    #[test]
    fn an_output_of_unknown_shape_is_refused() {
        let output = TensorSpec::new("b", DataType::Fp32, vec![Dim::Unknown]);
        let signature = Signature::fixed(vec![], vec![output]);
        let error = resident(signature, Span(1)).run(&[Inputs::fixed(1, vec![])]);
        assert!(error.unwrap_err().to_string().contains("not fixed"));
    }
}
