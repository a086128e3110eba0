//! The parameters that a request carries, and what each of them means here.
//!
//! One table for every protocol. Reserved names are the protocol's: such a parameter is acted on or
//! refused, never ignored. Every other name is the user's own; it is accepted and has no effect.

use crate::error::InferError;
use crate::priority;
use crate::quote::brief;
use std::borrow::Cow;
use std::fmt;
use symphony_core::{Class, Span};

/// Where parameters stand: on the request, or on a tensor of this name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ParameterPlace<'a> {
    Request,
    Input(&'a str),
    Output(&'a str),
}

/// A parameter's value, as every protocol can write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParameterValue<'a> {
    Bool(bool),
    Whole(u64),
    Text(Cow<'a, str>),
    /// Anything else, as an error shows it.
    Other(String),
}

/// What the parameters of one place ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A limit of the request's own, from its arrival.
    pub(crate) limit: Option<Span>,
    /// The class of the request; `None` for the model's.
    pub(crate) class: Option<Class>,
    /// Whether outputs that say nothing themselves are wanted as binary data.
    pub(crate) binary_outputs: bool,
    /// Whether this output is wanted as binary data.
    pub(crate) binary: Option<bool>,
    /// How many bytes of binary data this input has.
    pub(crate) binary_size: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Request,
    Input,
    Output,
}

/// What is done with a reserved parameter.
#[derive(Clone, Copy)]
enum Treatment {
    /// Reads the value; `None` when it is not one of those that the text says to give.
    Read(fn(&mut Asked, &ParameterValue<'_>) -> Option<()>, &'static str),
    /// Refused for this reason, unless its value asks for nothing: 0, false or an empty text.
    Refused(&'static str),
}

/// One reserved parameter: its name, where it may stand, and what is done with it.
struct Reserved(&'static str, &'static [Role], Treatment);

const REQUEST: &[Role] = &[Role::Request];
const INPUT: &[Role] = &[Role::Input];
const OUTPUT: &[Role] = &[Role::Output];
const TENSOR: &[Role] = &[Role::Input, Role::Output];

const NO_SEQUENCES: &str = "sequences are not supported, each request stands by itself";
const NO_SHARED_MEMORY: &str =
    "shared memory is not supported, send the data in the request and take it from the answer";
const TRUE_OR_FALSE: &str = "true or false";

/// Every reserved parameter that is known; errors name the first of them that is wrong.
const RESERVED: [Reserved; 14] = [
    Reserved(
        "timeout",
        REQUEST,
        Treatment::Read(read_timeout, "a whole number of microseconds, or 0 for no limit"),
    ),
    Reserved(
        "priority",
        REQUEST,
        Treatment::Read(read_priority, "1 (high), 2 (low), or 0 for the model's default"),
    ),
    Reserved("binary_data_output", REQUEST, Treatment::Read(read_binary_outputs, TRUE_OR_FALSE)),
    // Each answer is marked as final, and none is empty, whatever this says.
    Reserved(
        "triton_enable_empty_final_response",
        REQUEST,
        Treatment::Read(|_, value| value.boolean().map(drop), TRUE_OR_FALSE),
    ),
    Reserved("sequence_id", REQUEST, Treatment::Refused(NO_SEQUENCES)),
    Reserved("sequence_start", REQUEST, Treatment::Refused(NO_SEQUENCES)),
    Reserved("sequence_end", REQUEST, Treatment::Refused(NO_SEQUENCES)),
    Reserved("headers", REQUEST, Treatment::Refused("send headers as headers of the call")),
    Reserved("binary_data_size", INPUT, Treatment::Read(read_binary_size, "a number of bytes")),
    Reserved("binary_data", OUTPUT, Treatment::Read(read_binary, TRUE_OR_FALSE)),
    Reserved(
        "classification",
        OUTPUT,
        Treatment::Refused("classification is not supported, ask for the tensor itself"),
    ),
    Reserved("shared_memory_region", TENSOR, Treatment::Refused(NO_SHARED_MEMORY)),
    Reserved("shared_memory_byte_size", TENSOR, Treatment::Refused(NO_SHARED_MEMORY)),
    Reserved("shared_memory_offset", TENSOR, Treatment::Refused(NO_SHARED_MEMORY)),
];

/// How names begin that the protocol keeps for itself.
const PREFIXES: [&str; 4] = ["triton_", "sequence_", "shared_memory_", "binary_data"];

/// As many reserved parameters of one place as need to be read: if there are more, one of these is
/// unknown or given twice, and the request is refused.
pub(crate) const RESERVED_MAX: usize = RESERVED.len() + 1;

/// Whether a name is the protocol's; a name that is not belongs to the user.
pub(crate) fn is_reserved(name: &str) -> bool {
    rank(name) < RESERVED.len() || prefix(name).is_some()
}

/// What the reserved parameters of one place ask for.
///
/// # Errors
/// One of them is unknown, given twice, in the wrong place, has a wrong value, or asks for what
/// this server does not do. Always the same one is named, whatever order they come in.
pub(crate) fn read(
    place: ParameterPlace<'_>,
    mut given: Vec<(Cow<'_, str>, ParameterValue<'_>)>,
) -> Result<Asked, InferError> {
    given.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    let mut asked = Asked::default();
    let mut before = None;
    for (name, value) in &given {
        if before.replace(name) == Some(name) {
            return Err(InferError::Invalid(format!(
                "{} is given twice: give each parameter once",
                Named(name, place)
            )));
        }
        read_one(&mut asked, place, name, value)?;
    }
    Ok(asked)
}

fn read_one(
    asked: &mut Asked,
    place: ParameterPlace<'_>,
    name: &str,
    value: &ParameterValue<'_>,
) -> Result<(), InferError> {
    let Some(Reserved(_, roles, treatment)) = RESERVED.get(rank(name)) else {
        return Err(InferError::Unsupported(format!(
            "{} is not supported: the protocol reserves names that begin with {:?}, \
             give a parameter of your own another name",
            Named(name, place),
            prefix(name).unwrap_or_default()
        )));
    };
    if !roles.contains(&place.role()) {
        let roles: Vec<_> = roles.iter().map(|role| role.text()).collect();
        return Err(InferError::Invalid(format!(
            "{} is in the wrong place: it belongs to {}",
            Named(name, place),
            roles.join(" or ")
        )));
    }
    match treatment {
        Treatment::Read(read, wanted) => read(asked, value).ok_or_else(|| {
            InferError::Invalid(format!("{} is {value}: give {wanted}", Named(name, place)))
        }),
        Treatment::Refused(_) if value.asks_for_nothing() => Ok(()),
        Treatment::Refused(why) => {
            Err(InferError::Unsupported(format!("{} is {value}: {why}", Named(name, place))))
        }
    }
}

/// Position in the table; behind its end for a name that is not there.
fn rank(name: &str) -> usize {
    RESERVED.iter().position(|Reserved(known, ..)| *known == name).unwrap_or(RESERVED.len())
}

fn prefix(name: &str) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| name.starts_with(prefix))
}

fn read_timeout(asked: &mut Asked, value: &ParameterValue<'_>) -> Option<()> {
    let micros = value.whole()?;
    asked.limit = (micros > 0).then(|| Span::from_micros(micros));
    Some(())
}

fn read_priority(asked: &mut Asked, value: &ParameterValue<'_>) -> Option<()> {
    asked.class = match value.whole()? {
        0 => None,
        level => Some(priority::class(level)?),
    };
    Some(())
}

fn read_binary_outputs(asked: &mut Asked, value: &ParameterValue<'_>) -> Option<()> {
    asked.binary_outputs = value.boolean()?;
    Some(())
}

fn read_binary(asked: &mut Asked, value: &ParameterValue<'_>) -> Option<()> {
    asked.binary = Some(value.boolean()?);
    Some(())
}

fn read_binary_size(asked: &mut Asked, value: &ParameterValue<'_>) -> Option<()> {
    let ParameterValue::Whole(size) = value else { return None };
    asked.binary_size = Some(usize::try_from(*size).ok()?);
    Some(())
}

impl ParameterValue<'_> {
    /// A whole number; clients write it as a number, or as digits in a text.
    fn whole(&self) -> Option<u64> {
        match self {
            ParameterValue::Whole(number) => Some(*number),
            ParameterValue::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        }
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            ParameterValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn asks_for_nothing(&self) -> bool {
        match self {
            ParameterValue::Bool(value) => !value,
            ParameterValue::Whole(number) => *number == 0,
            ParameterValue::Text(text) => text.is_empty(),
            ParameterValue::Other(_) => false,
        }
    }
}

impl fmt::Display for ParameterValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParameterValue::Bool(value) => write!(f, "{value}"),
            ParameterValue::Whole(number) => write!(f, "{number}"),
            ParameterValue::Text(text) => write!(f, "{:?}", brief(text)),
            ParameterValue::Other(text) => f.write_str(&brief(text)),
        }
    }
}

impl ParameterPlace<'_> {
    fn role(self) -> Role {
        match self {
            ParameterPlace::Request => Role::Request,
            ParameterPlace::Input(_) => Role::Input,
            ParameterPlace::Output(_) => Role::Output,
        }
    }
}

impl Role {
    fn text(self) -> &'static str {
        match self {
            Role::Request => "the request",
            Role::Input => "an input",
            Role::Output => "an output",
        }
    }
}

/// A parameter and its place, as errors name them.
struct Named<'a>(&'a str, ParameterPlace<'a>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parameter {:?}", brief(self.0))?;
        match self.1 {
            ParameterPlace::Request => Ok(()),
            ParameterPlace::Input(name) => write!(f, " of input {:?}", brief(name)),
            ParameterPlace::Output(name) => write!(f, " of output {:?}", brief(name)),
        }
    }
}

/// Refuses the parameters of a load: the server serves what the repository holds.
///
/// # Errors
/// There is a parameter.
pub(crate) fn check_load<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), InferError> {
    match names.min() {
        None => Ok(()),
        Some(name) => Err(InferError::Unsupported(format!(
            "the load parameter {:?} is not supported: \
             change the model's files in the repository instead",
            brief(name)
        ))),
    }
}

/// Refuses the parameters of an unload, but for the one that clients always send: no model here
/// depends on another.
///
/// # Errors
/// There is another parameter.
pub(crate) fn check_unload<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), InferError> {
    match names.filter(|name| *name != "unload_dependents").min() {
        None => Ok(()),
        Some(name) => Err(InferError::Unsupported(format!(
            "the unload parameter {:?} is not supported: unload the model without it",
            brief(name)
        ))),
    }
}

/// Refuses the name of a repository.
///
/// # Errors
/// There is a name.
pub(crate) fn check_repository(name: &str) -> Result<(), InferError> {
    if name.is_empty() {
        return Ok(());
    }
    Err(InferError::Unsupported(format!(
        "there is no repository {:?}: this server has one, leave repository_name empty",
        brief(name)
    )))
}

#[cfg(test)]
mod tests {
    use super::{ParameterPlace as Place, ParameterValue as Value, *};

    const INPUT_X: Place<'_> = Place::Input("x");
    const OUTPUT_Y: Place<'_> = Place::Output("y");

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn one(place: Place<'_>, name: &str, value: Value<'_>) -> Result<Asked, InferError> {
        read(place, vec![(name.into(), value)])
    }

    #[test]
    fn values_are_read() {
        let asked = Asked::default;
        let limit = |micros| Asked { limit: Some(Span::from_micros(micros)), ..asked() };
        let class = |class| Asked { class: Some(class), ..asked() };
        let size = |size| Asked { binary_size: Some(size), ..asked() };
        for (place, name, value, expected) in [
            (Place::Request, "timeout", Value::Whole(1500), limit(1500)),
            (Place::Request, "timeout", text("20"), limit(20)),
            (Place::Request, "timeout", Value::Whole(0), asked()),
            (Place::Request, "timeout", text("0"), asked()),
            (Place::Request, "priority", Value::Whole(0), asked()),
            (Place::Request, "priority", Value::Whole(1), class(Class::High)),
            (Place::Request, "priority", text("2"), class(Class::Low)),
            (
                Place::Request,
                "binary_data_output",
                Value::Bool(true),
                Asked { binary_outputs: true, ..asked() },
            ),
            (Place::Request, "triton_enable_empty_final_response", Value::Bool(true), asked()),
            (Place::Request, "sequence_id", Value::Whole(0), asked()),
            (Place::Request, "sequence_id", text(""), asked()),
            (Place::Request, "sequence_start", Value::Bool(false), asked()),
            (INPUT_X, "binary_data_size", Value::Whole(8), size(8)),
            (OUTPUT_Y, "binary_data", Value::Bool(false), Asked { binary: Some(false), ..asked() }),
            (OUTPUT_Y, "classification", Value::Whole(0), asked()),
        ] {
            assert_eq!(one(place, name, value.clone()).unwrap(), expected, "{name} {value}");
        }
    }

    #[test]
    fn what_is_wrong_or_not_supported_is_named() {
        type Kind = fn(String) -> InferError;
        let (invalid, unsupported): (Kind, Kind) = (InferError::Invalid, InferError::Unsupported);
        let other = |text: &str| Value::Other(text.to_owned());
        for (place, name, value, kind, part) in [
            (
                Place::Request,
                "timeout",
                other("-5"),
                invalid,
                "is -5: give a whole number of micro",
            ),
            (Place::Request, "timeout", text(""), invalid, "\"timeout\" is \"\""),
            (Place::Request, "timeout", text("+3"), invalid, "\"timeout\" is \"+3\""),
            (Place::Request, "timeout", text("99999999999999999999"), invalid, "microseconds"),
            (Place::Request, "timeout", Value::Bool(true), invalid, "\"timeout\" is true"),
            (Place::Request, "priority", Value::Whole(3), invalid, "is 3: give 1 (high), 2 (low)"),
            (Place::Request, "priority", other("1.0"), invalid, "is 1.0"),
            (Place::Request, "binary_data_output", Value::Whole(1), invalid, "true or false"),
            (INPUT_X, "binary_data_size", other("-8"), invalid, "of input \"x\" is -8"),
            (INPUT_X, "binary_data_size", text("8"), invalid, "is \"8\": give a number of bytes"),
            (INPUT_X, "timeout", Value::Whole(1), invalid, "it belongs to the request"),
            (Place::Request, "binary_data", Value::Bool(true), invalid, "belongs to an output"),
            (
                Place::Request,
                "shared_memory_offset",
                Value::Whole(1),
                invalid,
                "belongs to an input or an output",
            ),
            (Place::Request, "sequence_id", Value::Whole(7), unsupported, "\"sequence_id\" is 7"),
            (Place::Request, "sequence_id", text("0"), unsupported, "sequences are not supported"),
            (Place::Request, "sequence_start", Value::Bool(true), unsupported, "sequences are not"),
            (Place::Request, "sequence_length", Value::Whole(0), unsupported, "\"sequence_\""),
            (Place::Request, "triton_other", text(""), unsupported, "\"triton_other\" is not supp"),
            (Place::Request, "headers", other("{}"), unsupported, "headers of the call"),
            (OUTPUT_Y, "binary_database", Value::Whole(0), unsupported, "\"binary_data\""),
            (OUTPUT_Y, "classification", Value::Whole(3), unsupported, "of output \"y\" is 3"),
            (INPUT_X, "shared_memory_region", text("r"), unsupported, "shared memory is not"),
        ] {
            let error = one(place, name, value).unwrap_err();
            assert_eq!(error, kind(error.to_string()), "{name}");
            let said = error.to_string();
            assert!(said.contains(part) && said.contains(&format!("{name:?}")), "{name}: {said}");
        }
    }

    #[test]
    fn several_are_read_together_and_the_same_one_is_named_in_any_order() {
        let two = |a: (&'static str, u64), b: (&'static str, u64)| {
            read(Place::Request, [a, b].map(|(n, v)| (n.into(), Value::Whole(v))).to_vec())
        };
        let both = two(("priority", 2), ("timeout", 5)).unwrap();
        assert_eq!((both.limit, both.class), (Some(Span::from_micros(5)), Some(Class::Low)));
        for (a, b) in
            [(("sequence_end", 1), ("sequence_id", 1)), (("triton_a", 1), ("triton_b", 1))]
        {
            assert_eq!(two(a, b), two(b, a));
        }
        let twice = two(("timeout", 5), ("timeout", 0)).unwrap_err().to_string();
        assert!(twice.contains("\"timeout\" is given twice"), "{twice}");
    }

    #[test]
    fn names_of_the_users_own_are_not_reserved() {
        for name in ["my_parameter", "Timeout", "time", "content_type", "tritone", "sequence", ""] {
            assert!(!is_reserved(name), "{name}");
        }
        assert!(is_reserved("triton_"));
    }

    #[test]
    fn the_documentation_lists_every_parameter() {
        let page = include_str!("../../../docs/protocols.md");
        for Reserved(name, ..) in RESERVED {
            assert!(page.contains(&format!("`{name}`")), "docs/protocols.md does not say {name}");
        }
    }
}
