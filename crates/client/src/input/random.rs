//! Made-up inputs that every model can take: floats in [-1, 1), integers, flags and texts that are
//! 0 or 1, which is a valid index and a valid token.

use crate::metadata::InputInfo;
use crate::payload::NamedTensor;
use anyhow::{Context, Result};
use half::{bf16, f16};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use symphony_wire::tensor::{DataType, bytes_contents};

/// More elements than this are no request.
const ELEMENTS_MAX: usize = 1 << 29;

/// Makes up tensors, the same ones for the same seed.
#[derive(Debug)]
pub(super) struct MadeUp(Pcg64Mcg);

impl MadeUp {
    pub(super) fn new(seed: u64) -> MadeUp {
        MadeUp(Pcg64Mcg::seed_from_u64(seed))
    }

    /// # Errors
    /// The shape has more elements than a request can.
    pub(super) fn tensor(&mut self, info: &InputInfo, shape: Vec<i64>) -> Result<NamedTensor> {
        let elements = shape
            .iter()
            .try_fold(1usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?))
            .filter(|elements| *elements <= ELEMENTS_MAX)
            .with_context(|| format!("input {:?}: {shape:?} is too large", info.name))?;
        let mut data = Vec::with_capacity(elements * info.datatype.size().unwrap_or(5));
        for _ in 0..elements {
            self.push(info.datatype, &mut data);
        }
        Ok(NamedTensor {
            name: info.name.clone(),
            datatype: info.datatype,
            shape,
            data: data.into(),
        })
    }

    fn push(&mut self, datatype: DataType, data: &mut Vec<u8>) {
        let bits = self.0.next_u32();
        let unit = (bits as f32 / u32::MAX as f32).mul_add(2.0, -1.0);
        match datatype {
            DataType::Fp16 => data.extend(f16::from_f32(unit).to_le_bytes()),
            DataType::Bf16 => data.extend(bf16::from_f32(unit).to_le_bytes()),
            DataType::Fp32 => data.extend(unit.to_le_bytes()),
            DataType::Fp64 => data.extend(f64::from(unit).to_le_bytes()),
            DataType::Bytes => {
                let digit = if bits & 1 == 0 { b"0" } else { b"1" };
                data.extend(bytes_contents([digit.as_slice()]));
            }
            integer => {
                let value = u64::from(bits & 1).to_le_bytes();
                data.extend_from_slice(&value[..integer.size().unwrap_or(value.len())]);
            }
        }
    }
}
