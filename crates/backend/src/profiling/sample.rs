//! Generated inputs with which any model can be measured.

use bytes::Bytes;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use symphony_wire::tensor::{DataType, Inputs, Signature, TensorSpec, bytes_contents};

/// Requests of one size, of one row each.
#[derive(Clone, Debug)]
pub struct SampledSize {
    /// The elements of one row over all inputs.
    pub size: u64,
    /// The requests, at least one.
    pub rows: Vec<Inputs>,
}

/// Generates `count` requests of one row each from a seed, at these sizes of the open dimensions.
/// Floats lie in [-1, 1), and integers and strings are 0 or 1, which is a valid index, token and flag.
/// All zeros would not do, because some kernels run faster on them.
#[must_use]
pub fn sample_rows(signature: &Signature, sizes: &[usize], count: usize, seed: u64) -> Vec<Inputs> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut row = || Inputs {
        rows: 1,
        sizes: sizes.to_vec(),
        tensors: signature
            .inputs
            .iter()
            // Inputs that are too large are refused before anything is sampled.
            .map(|spec| (spec, signature.elements_of(spec, 1, sizes).unwrap_or(0)))
            .map(|(spec, elements)| tensor(spec, elements, &mut random))
            .collect(),
    };
    std::iter::repeat_with(&mut row).take(count).collect()
}

fn tensor(spec: &TensorSpec, elements: usize, random: &mut Pcg64Mcg) -> Bytes {
    let unit = |random: &mut Pcg64Mcg| random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let mut data = Vec::with_capacity(elements * spec.datatype.size().unwrap_or(5));
    for _ in 0..elements {
        match spec.datatype {
            DataType::Fp32 => data.extend(unit(random).to_le_bytes()),
            DataType::Fp64 => data.extend(f64::from(unit(random)).to_le_bytes()),
            DataType::Fp16 => data.extend(half::f16::from_f32(unit(random)).to_le_bytes()),
            DataType::Bf16 => data.extend(half::bf16::from_f32(unit(random)).to_le_bytes()),
            DataType::Bytes => {
                let digit = [b"0".as_slice(), b"1"][random.next_u32() as usize & 1];
                data.extend(bytes_contents([digit]));
            }
            integer => {
                let value = u64::from(random.next_u32() & 1).to_le_bytes();
                data.extend_from_slice(&value[..integer.size().unwrap_or(value.len())]);
            }
        }
    }
    data.into()
}
