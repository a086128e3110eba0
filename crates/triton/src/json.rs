//! The JSON form of a configuration, as Triton answers it over HTTP: names as in the description,
//! every field of plain type whether it is set or not, and 64-bit numbers as numbers.

use crate::{MODEL_CONFIG, proto};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

/// The JSON of a configuration.
#[must_use]
pub fn to_json(config: &proto::ModelConfig) -> Value {
    let mut message = DynamicMessage::new(MODEL_CONFIG.clone());
    message.transcode_from(config).expect("both are made of one description");
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    json.expect("every value of the description has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn plain_fields_are_always_there_and_messages_when_they_are_set() {
        let config = crate::parse(
            r#"max_batch_size: 8 input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 16 ] } ]
               dynamic_batching { max_queue_delay_microseconds: 100 }
               parameters: { key: "b" value: { string_value: "2" } }"#,
        );
        expect![[r#"
            {
              "name": "",
              "platform": "",
              "max_batch_size": 8,
              "input": [
                {
                  "name": "x",
                  "data_type": "TYPE_FP32",
                  "format": "FORMAT_NONE",
                  "dims": [
                    -1,
                    16
                  ],
                  "is_shape_tensor": false,
                  "allow_ragged_batch": false,
                  "optional": false,
                  "is_non_linear_format_io": false
                }
              ],
              "output": [],
              "instance_group": [],
              "default_model_filename": "",
              "cc_model_filenames": {},
              "metric_tags": {},
              "dynamic_batching": {
                "preferred_batch_size": [],
                "max_queue_delay_microseconds": 100,
                "preserve_ordering": false,
                "priority_levels": 0,
                "default_priority_level": 0,
                "priority_queue_policy": {}
              },
              "parameters": {
                "b": {
                  "string_value": "2"
                }
              },
              "model_warmup": [],
              "backend": "",
              "batch_input": [],
              "batch_output": [],
              "runtime": ""
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&to_json(&config.unwrap())).unwrap());
    }
}
