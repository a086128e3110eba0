//! The element types of tensors: all that the ONNX schema names.

use std::fmt;

macro_rules! element_types {
    ($($variant:ident = $code:literal, $name:literal, $bits:expr;)*) => {
        /// The element type of a tensor. [`Display`](fmt::Display) gives ONNX's own name in lower case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ElementType {
            $(#[doc = concat!("ONNX `", $name, "`.")] $variant,)*
        }

        impl ElementType {
            /// Every element type, in the order of the ONNX codes.
            pub const ALL: &[ElementType] = &[$(ElementType::$variant,)*];

            /// The type with this `TensorProto.DataType` code, if there is one.
            pub fn from_code(code: i32) -> Option<ElementType> {
                match code {
                    $($code => Some(ElementType::$variant),)*
                    _ => None,
                }
            }

            /// The type's `TensorProto.DataType` code.
            pub fn code(self) -> i32 {
                match self { $(ElementType::$variant => $code,)* }
            }

            /// The bits that one element takes in raw data; `None` for strings, which have no raw
            /// form.
            pub fn bits(self) -> Option<usize> {
                match self { $(ElementType::$variant => $bits,)* }
            }

            /// ONNX's name in lower case, such as `float16`.
            pub fn name(self) -> &'static str {
                match self { $(ElementType::$variant => $name,)* }
            }
        }
    };
}

element_types! {
    Float32 = 1, "float", Some(32);
    Uint8 = 2, "uint8", Some(8);
    Int8 = 3, "int8", Some(8);
    Uint16 = 4, "uint16", Some(16);
    Int16 = 5, "int16", Some(16);
    Int32 = 6, "int32", Some(32);
    Int64 = 7, "int64", Some(64);
    String = 8, "string", None;
    Bool = 9, "bool", Some(8);
    Float16 = 10, "float16", Some(16);
    Float64 = 11, "double", Some(64);
    Uint32 = 12, "uint32", Some(32);
    Uint64 = 13, "uint64", Some(64);
    Complex64 = 14, "complex64", Some(64);
    Complex128 = 15, "complex128", Some(128);
    Bfloat16 = 16, "bfloat16", Some(16);
    Float8E4M3Fn = 17, "float8e4m3fn", Some(8);
    Float8E4M3Fnuz = 18, "float8e4m3fnuz", Some(8);
    Float8E5M2 = 19, "float8e5m2", Some(8);
    Float8E5M2Fnuz = 20, "float8e5m2fnuz", Some(8);
    Uint4 = 21, "uint4", Some(4);
    Int4 = 22, "int4", Some(4);
    Float4E2M1 = 23, "float4e2m1", Some(4);
    Float8E8M0 = 24, "float8e8m0", Some(8);
    Uint2 = 25, "uint2", Some(2);
    Int2 = 26, "int2", Some(2);
    Float6E2M3 = 27, "float6e2m3", Some(6);
    Float6E3M2 = 28, "float6e3m2", Some(6);
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensor_proto::DataType;

    #[test]
    fn every_type_of_the_schema_is_known() {
        for code in -1..64 {
            let schema = DataType::try_from(code).ok().filter(|t| *t != DataType::Undefined);
            let ours = ElementType::from_code(code);
            assert_eq!(
                schema.map(|t| t.as_str_name().to_lowercase()),
                ours.map(|t| t.name().to_owned()),
            );
            assert_eq!(ours.map(ElementType::code), schema.map(|t| t as i32));
        }
        assert_eq!(ElementType::ALL.len(), 28);
    }
}
